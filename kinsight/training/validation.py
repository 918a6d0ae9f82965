"""Validation by retrieval while training, and keeping the best model."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.evaluation.classes import logits_of
from kinsight.evaluation.embedding import Embedded, embed_records
from kinsight.evaluation.targets import build_targets
from kinsight.metrics import AlikeAt, PairRelation, retrieval_metrics
from kinsight.models import save_bundle
from kinsight.parallel.groups import broadcast_tensors, is_main, sum_over_ranks
from kinsight.progress import clean
from kinsight.relations import SharedLabels
from kinsight.training.classified import class_metrics, truth
from kinsight.training.finite import stop_unless_finite_outputs, stop_unless_finite_weights
from kinsight.training.prepared import Prepared, bundle_classifier, bundle_header
from kinsight.training.record import Record
from kinsight.training.run_folder import RunFolder


def validate(prepared: Prepared, run: RunFolder, record: Record) -> float:
    """Embed the validation images, measure, log, and keep the model in `best/` if it is better; returns the measure.

    Every rank embeds its share; the main rank measures; all ranks get the same value.
    Raises RunError when the last step has left weights that are not finite.
    """
    assert prepared.validation is not None
    position, wanted = prepared.training.position, prepared.spec.validate_.metric
    stop_unless_finite_weights(prepared)
    share_main_buffers(prepared)
    with evaluated_weights(prepared):
        with prepared.children.starting():
            embedded = embed_records(
                prepared.net,
                prepared.validation,
                prepared.device,
                prepared.arithmetic,
                batch_size=prepared.spec.validate_.batch_size,
            )
        metrics = {}
        if is_main():
            stop_unless_finite_outputs(embedded.emb_ND, prepared)
            if prepared.spec.task == "metric":
                labels = _labels(prepared, embedded.index_N)
                metrics = _measure(embedded.emb_ND, labels, wanted, prepared.device)
            else:
                metrics = _measure_classes(prepared, embedded, wanted)
        value = sum_over_ranks([metrics.get(wanted, 0.0)])[0]
        if math.isnan(value):
            value = 0.0
        better = position.best is None or value > position.best or prepared.spec.validate_.keep == "last"
        if better:
            position.best, position.bad_validations = value, 0
            position.best_epoch, position.best_step = position.epoch, position.step
            keep_best(prepared, run)
        else:
            position.bad_validations += 1
    record.log("validation", position, clean(metrics))
    return value


def best_place(prepared: Prepared) -> str | None:
    """When the best model was reached: `after epoch 3`, or `after step 70` where it was within an epoch, or validation
    goes by steps; None without one.
    """
    position, rhythm = prepared.training.position, prepared.spec.validate_
    step, epoch = position.best_step, position.best_epoch
    if epoch is None:
        return None
    if step is None:  # of a checkpoint that did not know it yet
        return f"after epoch {epoch}"
    by_epochs = rhythm.times is None and rhythm.every_steps is None
    whole = step == epoch * prepared.steps_per_epoch
    return f"after epoch {epoch:,}" if by_epochs and whole else f"after step {step:,}"


def share_main_buffers(prepared: Prepared) -> None:
    """Without synchronised batch norm each rank has running statistics of its own; the main rank's are what counts."""
    if not prepared.spec.sync_batchnorm:
        average = prepared.training.average
        averaged = average.tensors.values() if average is not None else ()
        broadcast_tensors([*prepared.training.learner.buffers(), *averaged])


def keep_best(prepared: Prepared, run: RunFolder) -> None:
    """Write the network as it is now to `best/` (main rank)."""
    if is_main():
        save_bundle(run.best, prepared.net, bundle_header(prepared), bundle_classifier(prepared))
        run.sync()


@contextmanager
def evaluated_weights(prepared: Prepared) -> Iterator[None]:
    """Within the block the network has the weights that count: the averaged ones, where there are any."""
    average = prepared.training.average
    if average is None:
        yield
    else:
        with average.swapped_in(prepared.averaged):
            yield


def _labels(prepared: Prepared, index_N: np.ndarray) -> Tensor | PairRelation:
    """What makes validation images alike: a shared label where images have several, else their class."""
    assert prepared.validation is not None
    if not isinstance(prepared.targets.relation, SharedLabels):
        return torch.from_numpy(prepared.validation.records.label_N[index_N])
    relation, target_N = build_targets(prepared.spec.relation, prepared.validation.records)
    return AlikeAt(relation, target_N[index_N])


def _measure(emb_ND: Tensor, label_N: Tensor | PairRelation, wanted: str, device: torch.device) -> dict[str, float]:
    """The usual metrics and the one the best model is chosen by; those that need every rank only when wanted."""
    name, _, k = wanted.partition("@")
    ks = {1, 10, *([int(k)] if name == "recall" else [])}
    precision_ks = [int(k)] if name == "precision" else []
    whole = wanted in ("map", "mrr")
    found = retrieval_metrics(emb_ND, label_N, ks=sorted(ks), precision_ks=precision_ks, whole=whole, device=device)
    return {key: value for key, value in found.means.items() if not key.startswith("cmc@")}


def _measure_classes(prepared: Prepared, embedded: Embedded, wanted: str) -> dict[str, float]:
    """What the classifier says of the validation images, against what they show."""
    assert prepared.validation is not None
    classifier, records = bundle_classifier(prepared), prepared.validation.records
    assert classifier is not None, "these tasks have one"
    target = truth(prepared.spec.task, records, embedded.index_N)
    classifier = classifier.to(prepared.device)
    try:
        return class_metrics(classifier, embedded.emb_ND, target, wanted=wanted)
    except DataError as error:
        if error.code == "metrics.nan":  # of vectors that are finite
            stop_unless_finite_outputs(logits_of(classifier, embedded.emb_ND), prepared)
        raise
