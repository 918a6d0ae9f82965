"""The end of a training of classes or labels: figures of the best model, its temperature and thresholds."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kinsight import progress, storage
from kinsight.data import Records
from kinsight.data.multi_hot import MultiHot
from kinsight.data.sketch import share_in
from kinsight.errors import KinsightError
from kinsight.metrics import (
    choose_thresholds,
    classification_metrics,
    fit_temperature,
    multilabel_metrics,
    probabilities,
)
from kinsight.models import BundleHeader, Classifier, load_header, write_calibration
from kinsight.specs.tasks import Task

_ROWS = 4096


def logits_of(classifier: Classifier, emb_ND: Tensor) -> Tensor:
    """float32 (N, C) of embeddings on the CPU."""
    with torch.inference_mode():
        return torch.cat([classifier(emb_BD) for emb_BD in emb_ND.split(_ROWS)])


def truth(task: Task, records: Records, index_N: np.ndarray) -> Tensor:
    """What these records show: int64 classes (N,), or int8 (N, C) of labels with -1 for unknown."""
    return torch.from_numpy(MultiHot(records)[index_N] if task == "multilabel" else records.label_N[index_N])


def class_metrics(
    logits_NC: Tensor,
    target: Tensor,
    *,
    temperature: float | None = None,
    threshold_C: Sequence[float] | None = None,
) -> dict[str, float]:
    """The usual figures of one class an image, target (N,), or of many labels, target (N, C).

    threshold_C: probabilities from which on labels count as predicted; 0.5 without. Raises DataError.
    """
    if target.ndim == 1:
        ks = [k for k in (1, 5) if k < logits_NC.shape[1]]
        return classification_metrics(logits_NC, target, ks=ks or [1]).means
    score_NC = probabilities(logits_NC, several=True, temperature=temperature)
    limits = None if threshold_C is None else torch.tensor(threshold_C, dtype=torch.float64)
    return multilabel_metrics(score_NC, target, limits).means


def calibrate(bundle: storage.AddressLike, logits_NC: Tensor, target: Tensor, uris: Sequence[str]) -> BundleHeader:
    """Find temperature and thresholds of labels on validation images and keep them in the bundle; gives its header.

    uris: addresses of these images; where the model was trained on some, they would mislead, and nothing is kept.
    Raises DataError where nothing is known of any image, StorageError.
    """
    header = load_header(bundle)
    if shared := share_in(header.data_sketch, uris):
        progress.warn(
            f"no temperature and thresholds are written into the bundle: about {100 * shared:.0f} % of the validation "
            "images are training images, so they mislead"
        )
        return header
    found = fit_temperature(logits_NC, target)
    thresholds = None
    if target.ndim == 2:
        score_NC = probabilities(logits_NC, several=True, temperature=found.temperature)
        thresholds = choose_thresholds(score_NC, target).threshold_C.tolist()
    write_calibration(bundle, temperature=found.temperature, label_thresholds=thresholds)
    progress.say(
        f"calibrated  by temperature {found.temperature:.3g}"
        + (", and a threshold for each label by F1" if thresholds is not None else "")
        + " on the validation images; now in the bundle"
    )
    return load_header(bundle)


def measured_end(
    bundle: storage.AddressLike, logits_NC: Tensor, target: Tensor, uris: Sequence[str], *, keep: bool
) -> dict[str, float]:
    """The best model's figures on the validation images, by the thresholds that were kept; empty where it has none.

    keep: whether temperature and thresholds go into the bundle. Raises StorageError.
    """
    try:
        header = calibrate(bundle, logits_NC, target, uris) if keep else load_header(bundle)
        limits = header.label_thresholds
        return class_metrics(logits_NC, target, temperature=header.temperature, threshold_C=limits)
    except KinsightError as error:
        progress.warn(f"the best model could not be measured: {error.message}")
        return {}
