"""Everything a training consists of, and what checkpoints and bundles say of it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kinsight.data import (
    DeviceAugment,
    ImageLoader,
    Records,
    Sampler,
)
from kinsight.evaluation.settings import printed_tree
from kinsight.evaluation.targets import Targets
from kinsight.losses import Objective
from kinsight.models import (
    BundleHeader,
    Classifier,
    ClassifierForm,
    EmbeddingNet,
    make_header,
)
from kinsight.parallel.device import Arithmetic
from kinsight.specs.train import TrainSpec
from kinsight.training.budget import Budget
from kinsight.training.checkpoint import Origin
from kinsight.training.freezing import Freezer
from kinsight.training.label_targets import LabelTargets
from kinsight.training.signals import Children
from kinsight.training.state import Training


class Slopes(NamedTuple):
    """The gradient of a loss with respect to embeddings and auxiliary features, taken before."""

    emb_BD: Tensor
    aux_BE: Tensor | None


class Learner(nn.Module):
    """Network and objective as one module: images in, loss out, so that gradients of both are averaged together."""

    def __init__(self, net: EmbeddingNet, objective: Objective, *, compiled: bool) -> None:
        super().__init__()
        self.net, self.objective = net, objective
        self.embed = torch.compile(net.forward_with_aux) if compiled else net.forward_with_aux

    def forward(
        self,
        images_BCHW: Tensor,
        target: Tensor | None = None,
        global_batch: int | None = None,
        mixed: tuple[Tensor, Tensor] | None = None,
        *,
        slopes: Slopes | None = None,
    ) -> Any:
        """Loss of this rank's images and its statistics; see `Objective.forward`.

        slopes: instead of that, a number whose gradient with respect to the network is what these slopes lead to. The
        objective's own gradients, which have been taken, stay as they are.
        """
        emb_BD, aux_BE = self.embed(images_BCHW)
        if slopes is None:
            assert target is not None, "a loss needs targets"
            return self.objective(emb_BD, target, aux_BD=aux_BE, global_batch=global_batch, mixed=mixed)
        pairs = [(emb_BD, slopes.emb_BD)] + ([(aux_BE, slopes.aux_BE)] if slopes.aux_BE is not None else [])
        total = torch.stack([(value.float() * slope.float()).sum() for value, slope in pairs]).sum()
        # every parameter has to take part, or gradients would not be averaged over the ranks
        return total + sum(0 * parameter.sum() for parameter in self.objective.parameters())


@dataclass
class Prepared:
    """Everything a training needs, ready on this rank."""

    spec: TrainSpec
    device: torch.device
    arithmetic: Arithmetic
    records: Records
    sampler: Sampler
    loader: ImageLoader
    augment: DeviceAugment
    validation: ImageLoader | None
    net: EmbeddingNet
    targets: Targets | LabelTargets
    training: Training
    steps_per_epoch: int
    budget: Budget
    freezer: Freezer
    children: Children = field(default_factory=Children)

    @property
    def learner(self) -> Learner:
        """Network and objective, not wrapped."""
        assert isinstance(self.training.learner, Learner)
        return self.training.learner

    @property
    def averaged(self) -> nn.Module:
        """What `ema` is taken of: the network, and the classifier where that goes into the bundle."""
        return self.net if self.spec.task == "metric" else self.learner

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.learner.objective

    def close(self) -> None:
        """End the processes that read images."""
        self.loader.close()
        if self.validation is not None:
            self.validation.close()
        self.children.end()


def origin(prepared: Prepared) -> Origin:
    """What a checkpoint of this training belongs to."""
    validation = prepared.validation.records.fingerprint if prepared.validation is not None else None
    data = {"training": prepared.records.fingerprint, "validation": validation}
    if (relation := prepared.targets.fingerprint) is not None:
        data["relation"] = relation
    return Origin(printed_tree(prepared.spec), data)


def bundle_header(prepared: Prepared) -> BundleHeader:
    """What the bundle says of this training."""
    spec = prepared.spec
    return make_header(
        prepared.net,
        model=spec.model,
        image=spec.data,
        task=spec.task,
        class_names=prepared.records.class_names,
        data_fingerprint=prepared.records.fingerprint,
        data_sketch=prepared.records.sketch,
        spec=printed_tree(spec),
    )


def bundle_classifier(prepared: Prepared) -> Classifier | None:
    """The classifier that goes into the bundle: the main loss's, as it is now; None in `metric`."""
    head = prepared.objective.head if prepared.spec.task != "metric" else None
    if head is None:
        return None
    linear = head.linear()
    form = ClassifierForm(
        num_classes=head.num_classes,
        embedding_dim=head.embedding_dim,
        unit=linear.unit,
        bias=linear.bias_C is not None,
        centres=linear.centres,
        pool=linear.pool,
        sharpness=linear.sharpness,
    )
    return Classifier.of(form, linear.weight_RD, linear.bias_C)
