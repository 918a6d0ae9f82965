"""From a spec to everything the loop needs, cheap checks first: nothing is trained before all of them have passed."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kinsight import storage
from kinsight.data import (
    DeviceAugment,
    ImageLoader,
    Records,
    Sampler,
    build_device_augment,
    build_sampler,
    read_class_names,
    read_records,
    require_images,
)
from kinsight.errors import SpecError
from kinsight.evaluation.class_weights import read_class_weights
from kinsight.evaluation.settings import printed_tree
from kinsight.evaluation.targets import Targets
from kinsight.losses import Objective, build_objective
from kinsight.models import (
    BundleHeader,
    Classifier,
    ClassifierForm,
    EmbeddingNet,
    build_network,
    check_model,
    has_published_weights,
    make_header,
    natural_embedding_dim,
)
from kinsight.parallel.batchnorm import convert
from kinsight.parallel.collectives import rank, world_size
from kinsight.parallel.device import Arithmetic, choose_precision
from kinsight.parallel.groups import is_main, processes_here
from kinsight.progress import say, warn
from kinsight.specs.data import Augment
from kinsight.specs.train import TrainSpec
from kinsight.training.averaging import WeightAverage
from kinsight.training.budget import Budget
from kinsight.training.checkpoint import Origin, initial_weights
from kinsight.training.checks import (
    check_classes,
    check_freezing,
    check_label_validation,
    check_memories,
    check_norms,
    check_pairs,
    check_ranks,
    check_validation_classes,
    tell_balanced_twice,
    tell_never_drawn,
    tell_never_reached,
)
from kinsight.training.freezing import Freezer
from kinsight.training.label_targets import LabelTargets, class_counts, targets_of
from kinsight.training.optimizers import build_optimizer
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


def settled(spec: TrainSpec) -> TrainSpec:
    """The spec with its defaults decided: weights are null for a network that has no published ones, or starts from a
    bundle (where the user asked for them by name, building the network says what is wrong); without a neck the
    embedding is as long as the backbone's features.
    """
    model = spec.model
    if model.has_own_length:
        model = model.model_copy(update={"embedding_dim": natural_embedding_dim(model, spec.data)})
        spec = spec.model_copy(update={"model": model})
    if model.pretrained != "default" or "pretrained" in model.model_fields_set:
        return spec
    if model.init_from is None:
        if has_published_weights(model.backbone):
            return spec
        warn(f"{model.backbone} has no published weights: it starts from random ones")
    return spec.model_copy(update={"model": model.model_copy(update={"pretrained": None})})


def prepare(spec: TrainSpec, device: torch.device) -> Prepared:
    """Read the lists, check everything that can be checked, build the objects. Raises KinsightError."""
    check_model(spec.model, spec.data)
    arithmetic = choose_precision(spec.precision, device)
    records = read_training_records(spec)
    validation = _read_validation(spec, records)
    sampler = _sampler(spec, records)
    tell_never_drawn(spec, records)
    tell_balanced_twice(spec)
    steps_per_epoch = sampler.num_batches
    budget = Budget.of(spec, steps_per_epoch)
    check_memories(spec, records, budget.steps)
    check_freezing(spec, budget.steps)
    tell_never_reached(spec, budget.steps, steps_per_epoch)
    check_ranks(spec, sampler)
    targets = targets_of(spec, records)
    if isinstance(targets, Targets):
        check_pairs(spec, sampler, targets)
    net, training = _build_training(spec, records, targets, device)
    assert isinstance(training.learner, Learner), "nothing wraps it yet"
    freezer = Freezer(spec.freeze, net, training.learner.objective)
    check_norms(spec, sampler, net)
    if spec.sync_batchnorm and world_size() > 1:
        convert(net)
    loader = _loader(spec, records, spec.data.augment)
    reader = _loader(spec, validation, None) if validation is not None else None
    augment = build_device_augment(spec.data.augment, seed=spec.seed)
    prepared = Prepared(
        spec=spec,
        device=device,
        arithmetic=arithmetic,
        records=records,
        sampler=sampler,
        loader=loader,
        augment=augment,
        validation=reader,
        net=net,
        targets=targets,
        freezer=freezer,
        training=training,
        steps_per_epoch=steps_per_epoch,
        budget=budget,
    )
    if is_main():
        _introduce(prepared, validation)
    return prepared


def read_training_records(spec: TrainSpec) -> Records:
    """The training images, checked against `data.classes` and `data.num_classes`."""
    classes = read_class_names(spec.data.classes) if spec.data.classes is not None else None
    labelled = spec.task != "multilabel"  # there an image may show nothing of what is asked for
    records = read_records(spec.data.train, classes=classes, num_classes=spec.data.num_classes, labelled=labelled)
    require_images(records, spec.data.train)
    check_classes(spec, records)
    return records


def _sampler(spec: TrainSpec, records: Records) -> Sampler:
    """The sampler; its remarks are said once."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        sampler = build_sampler(spec.sampler, records, batch_size=spec.batch.size, seed=spec.seed)
    if is_main():
        for remark in remarks:
            warn(str(remark.message))
    return sampler


def _read_validation(spec: TrainSpec, training: Records) -> Records | None:
    if spec.data.validation is None:
        return None
    if spec.task == "metric":
        records = read_records(spec.data.validation, own_vocabulary=True)
    else:
        labelled = spec.task == "classification"
        records = read_records(spec.data.validation, classes=training.class_names, learned=True, labelled=labelled)
    require_images(records, spec.data.validation, field="data.validation")
    if spec.validate_.images is not None and spec.validate_.images < len(records):
        records = records.take(range(spec.validate_.images))
    if spec.task == "metric":
        check_validation_classes(records)
    else:
        check_label_validation(spec, records)
    return records


def _loader(spec: TrainSpec, records: Records, augment: Augment | None) -> ImageLoader:
    """A loader for this rank; `data.workers` are per machine, shared by the processes on it."""
    here = processes_here()
    return ImageLoader(
        records,
        spec.data,
        augment=augment,
        seed=spec.seed,
        workers=-(-spec.data.workers // here),
        cache=spec.data.cache,
        max_broken=spec.data.max_broken,
        processes=here,
        labelled=False,  # what losses read is looked up by record number
    )


def _build_training(
    spec: TrainSpec, records: Records, targets: Targets | LabelTargets, device: torch.device
) -> tuple[EmbeddingNet, Training]:
    with_aux = spec.loss.ce is not None
    initial = initial_weights(spec.model.init_from) if spec.model.init_from is not None else None
    net = build_network(spec.model, image=spec.data, seed=spec.seed, with_aux=with_aux, asked=True, initial=initial)
    objective = build_objective(
        spec.loss,
        num_classes=max(records.num_classes, 1),
        embedding_dim=spec.model.embedding_dim,
        aux_dim=spec.model.embedding_dim if with_aux else None,
        extra=spec.extra_losses,
        seed=spec.seed,
        relation=targets.relation,
        target_shape=targets.shape,
        long_tail=spec.long_tail,
        counts=class_counts(spec, records, targets),
    )
    if spec.head.init_from is not None:
        start_head(objective, spec, records.class_names)
    net.to(device).train()
    objective.to(device).train()
    learner = Learner(net, objective, compiled=spec.model.compile)
    optimizer = build_optimizer(spec.optimizer, net, objective)
    averaged = net if spec.task == "metric" else learner
    average = WeightAverage(averaged, spec.ema.decay) if spec.ema is not None else None
    scaler = choose_precision(spec.precision, device).scaler()
    # What is drawn from here on (dropout) differs between the ranks, as it does between the parts of one batch.
    torch.manual_seed(spec.seed + 1_000_003 * rank())
    return net, Training(learner, optimizer, average, scaler)


def start_head(objective: Objective, spec: TrainSpec, class_names: Sequence[str]) -> None:
    """Take class weights over from `head.init_from`; those of other classes or shapes are left out, which is said.

    Raises SpecError where it has none, or another loss's, and as `read_class_weights`.
    """
    assert spec.head.init_from is not None and objective.head is not None, "the spec has seen to it"
    place, found = storage.Address.parse(spec.head.init_from), read_class_weights(spec.head.init_from)
    if found is None:
        raise _no_class_weights(f"{place}: holds no class weights; bundles and runs without snapshots have none")
    if found.loss.kind != spec.loss.kind:
        raise _no_class_weights(f"{place}: its class weights are {found.loss.kind}'s, not {spec.loss.kind}'s")
    ours = {name: value.shape for name, value in objective.head.state_dict().items()}
    if found.class_names != tuple(class_names):
        why = f"they are of {len(found.class_names):,} classes, which are not the {len(class_names):,} of these images"
    elif {name: value.shape for name, value in found.state.items()} != ours:
        why = "their shapes differ"
    else:
        objective.head.load_state_dict(found.state)
        return
    if is_main():
        warn(f"{place}: its class weights are left out: {why}")


def _no_class_weights(message: str) -> SpecError:
    return SpecError(
        "train.class-weights",
        message,
        field="head.init_from",
        remedy="give RUN/snapshots/N of a training with the same loss and with `snapshots`, or leave it out for "
        "random class weights",
    )


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


def _introduce(prepared: Prepared, validation: Records | None) -> None:
    spec, arithmetic = prepared.spec, prepared.arithmetic
    for records in (prepared.records, validation):
        for note in records.notes if records is not None else ():
            warn(note)
    weights = sum(parameter.numel() for parameter in prepared.net.parameters())
    say(f"images      {len(prepared.records):,} of {prepared.records.num_classes:,} classes")
    if isinstance(prepared.targets, LabelTargets):
        say(f"labels      {prepared.targets.words(prepared.records)}")
    if validation is not None:
        say(f"validation  {len(validation):,} images of {validation.num_classes:,} classes, by {spec.validate_.metric}")
    else:
        say("validation  none: no early stopping, and the last model counts as the best")
    say(f"network     {spec.model.backbone}, {weights:,} weights, at first {prepared.net.origin.source or 'random'}")
    if prepared.net.origin.licence:
        say(f"licence     the first weights are under {prepared.net.origin.licence}")
    say(
        f"computing   {prepared.device} in {arithmetic.name} ({arithmetic.why}), {world_size()} process(es) of "
        f"{torch.get_num_threads()} thread(s); {prepared.budget.words(spec.batch.size)}"
    )
    steps = prepared.budget.steps
    if steps is not None and spec.schedule.warmup_steps >= steps:
        warn(
            f"schedule.warmup_steps={spec.schedule.warmup_steps}, but there are {steps} steps: the "
            f"learning rate never reaches optimizer.lr={spec.optimizer.lr}"
        )
