"""Validation by retrieval while training, and keeping the best model."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from kinsight.evaluation.embedding import embed_loaded
from kinsight.metrics import retrieval_metrics
from kinsight.models import save_bundle
from kinsight.parallel.groups import is_main, sum_over_ranks
from kinsight.progress import clean
from kinsight.training.record import Record
from kinsight.training.run_folder import RunFolder
from kinsight.training.setup import Prepared, bundle_header


def validate(prepared: Prepared, run: RunFolder, record: Record) -> float:
    """Embed the validation images, measure, log, and keep the model in `best/` if it is better; returns the measure.

    Every rank embeds its share; the main rank measures; all ranks get the same value.
    """
    assert prepared.validation is not None
    position, wanted = prepared.training.position, prepared.spec.validate_.metric
    with evaluated_weights(prepared):
        embedded = embed_loaded(prepared.net, prepared.validation, prepared.device, prepared.arithmetic)
        metrics = {}
        if is_main():
            label_N = prepared.validation_labels[embedded.index_N]
            metrics = retrieval_metrics(embedded.emb_ND, label_N, ks=metric_ks(wanted)).means
        value = sum_over_ranks([metrics.get(wanted, 0.0)])[0]
        if math.isnan(value):
            value = 0.0
        better = position.best is None or value > position.best
        if better:
            position.best, position.best_epoch, position.bad_validations = value, position.epoch, 0
            keep_best(prepared, run)
        else:
            position.bad_validations += 1
    record.log("validation", position.step, position.epoch, clean(metrics))
    return value


def keep_best(prepared: Prepared, run: RunFolder) -> None:
    """Write the network as it is now to `best/` (main rank)."""
    if is_main():
        save_bundle(run.path / "best", prepared.net, bundle_header(prepared))
        run.sync()


@contextmanager
def evaluated_weights(prepared: Prepared) -> Iterator[None]:
    """Within the block the network has the weights that count: the averaged ones, where there are any."""
    average = prepared.training.average
    if average is None:
        yield
    else:
        with average.swapped_in(prepared.net):
            yield


def metric_ks(metric: str) -> tuple[int, ...]:
    """The k of Recall@k to compute: the usual ones and the one the best model is chosen by."""
    _, _, k = metric.partition("@")
    return tuple(sorted({1, 2, 4, 8, *([int(k)] if k.isdigit() else [])}))
