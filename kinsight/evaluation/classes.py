"""A classifier on labelled images: what it says, how right that is, how sure it may be of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import progress
from kinsight.data import ImageLoader, Records, read_records, require_images
from kinsight.data.multi_hot import MultiHot
from kinsight.errors import DataError
from kinsight.evaluation.decision import Decision
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.model import Model
from kinsight.metrics import (
    Reliability,
    choose_thresholds,
    classification_metrics,
    fit_temperature,
    multilabel_metrics,
    probabilities,
    reliability,
)
from kinsight.models import Classifier
from kinsight.reports.classified import Classified
from kinsight.specs.classes import ClassesSpec
from kinsight.specs.data import Source

_AT_THRESHOLDS = ("cp", "cr", "cf1", "op", "or", "of1", "macro_f1", "exact_match")
_ROWS = 2**14


@dataclass(frozen=True)
class Scored:
    """logit_NC: float32. target: int64 (N,), or int8 (N, C). uri_N: addresses. broken: (address, reason) of images left
    out. records: all images."""

    logit_NC: Tensor
    target: Tensor
    uri_N: pa.ChunkedArray
    broken: list[tuple[str, str]]
    records: Records


def read_for(decision: Decision, source: Source, *, field: str = "data") -> Records:
    """Labelled images by the model's own classes. Raises DataError: unknown classes, images without the one label that
    `classification` needs, no label at all."""
    records = read_records(source, classes=decision.class_names, labelled=not decision.several)
    require_images(records, source, field=field)
    for note in records.notes:
        progress.warn(note)
    if decision.several:
        if not records.count_C.any():
            raise DataError(
                "evaluation.no-labels",
                "no image has a label that the model knows, so nothing can be measured",
                field=records.source,
                remedy="name the column with the labels (label_column), or those with one label each (label_columns)",
            )
    else:
        _ = records.label_N  # names an image that has not exactly one
    return records


def score(model: Model, records: Records, loader: ImageLoader, *, batch_size: int) -> Scored:
    """What `model` says of the images of `loader`."""
    assert model.classifier is not None and model.decision is not None, "checked before"
    with progress.task("score", len(records), "images") as task:
        found = embed_records(model.net, loader, model.device, model.arithmetic, batch_size=batch_size, task=task)
    logit_NC = logits_of(model.classifier, found.emb_ND)
    return scored(records, logit_NC, found.index_N, loader.broken, several=model.decision.several)


def logits_of(classifier: Classifier, emb_ND: Tensor) -> Tensor:
    """float32 (N, C) on the CPU, in blocks, where the classifier is."""
    place = classifier.weight.device
    with torch.inference_mode():
        return torch.cat([classifier(emb_BD.to(place)).cpu() for emb_BD in emb_ND.split(_ROWS)])


def scored(
    records: Records, logit_NC: Tensor, index_N: np.ndarray, broken: list[tuple[str, str]], *, several: bool
) -> Scored:
    """index_N: the record of each row. several: whether images may have any number of labels."""
    target = MultiHot(records)[index_N] if several else records.label_N[index_N]
    return Scored(logit_NC, torch.from_numpy(target), records.uris.take(pa.array(index_N)), broken, records)


def judge(decision: Decision, found: Scored, wanted: ClassesSpec, *, seed: int = 0) -> Classified:
    """All that is measured: at the decision's own temperature and thresholds, and what these images would choose.

    Raises DataError for logits that are not finite.
    """
    if not bool(found.logit_NC.isfinite().all()):
        raise DataError(
            "evaluation.logits", "the model's logits are not all finite", remedy="look for a model that has diverged"
        )
    fitted = fit_temperature(found.logit_NC, found.target)
    before_NC = decision.probabilities(found.logit_NC)
    after_NC = probabilities(found.logit_NC, several=decision.several, temperature=fitted.temperature)
    known = {
        "class_names": decision.class_names,
        "probability_NC": before_NC,
        "target": found.target,
        "uri_N": found.uri_N,
        "reliability": _reliability(before_NC, found.target),
        "calibrated": _reliability(after_NC, found.target),
        "fitted": fitted,
        "temperature": decision.temperature,
        "raw": _raw(decision, found) if decision.temperature is not None else None,
        "each_class": wanted.each_class,
        "num_pictures": wanted.num_visualizations,
        "seed": seed,
    }
    counts = {"images": len(found.target), "broken_images": len(found.broken)}
    sure = {
        "ece": known["reliability"].ece,
        "temperature": fitted.temperature,
        "calibrated/ece": known["calibrated"].ece,
    }
    if decision.threshold_C is None:
        result = classification_metrics(found.logit_NC, found.target, _usable(wanted.ks, len(decision.class_names)))
        counts["classes"] = int((result.support_C > 0).sum())
        return Classified(metrics=result.means | sure | counts, one=result, **known)
    return _several(decision, after_NC, known, wanted, sure | counts)


def _several(
    decision: Decision, after_NC: Tensor, known: dict[str, Any], wanted: ClassesSpec, further: dict[str, Any]
) -> Classified:
    """Thresholds are chosen on probabilities by the temperature that goes into the bundle with them."""
    result = multilabel_metrics(known["probability_NC"], known["target"], decision.threshold_C)
    chosen = choose_thresholds(after_NC, known["target"], precision=wanted.precision)
    at_chosen = multilabel_metrics(after_NC, known["target"], chosen.threshold_C)
    metrics = result.means | further | {"labels": result.num_labels}
    judged = Classified(
        metrics=metrics, several=result, threshold_C=decision.threshold_C, chosen=chosen, at_chosen=at_chosen, **known
    )
    if judged.has_chosen:
        metrics |= {f"chosen/{name}": at_chosen.means[name] for name in _AT_THRESHOLDS}
    return replace(judged, metrics=metrics)


def _raw(decision: Decision, found: Scored) -> Reliability:
    return _reliability(probabilities(found.logit_NC, several=decision.several), found.target)


def _usable(ks: list[int], classes: int) -> list[int]:
    """Among as many classes as there are, the true one always is."""
    return [k for k in ks if 1 < k < classes]


def _reliability(probability_NC: Tensor, target: Tensor) -> Reliability:
    if target.ndim == 1:
        confidence_N, predicted_N = probability_NC.max(1)
        return reliability(confidence_N, predicted_N == target)
    known_NC = target >= 0
    return reliability(probability_NC[known_NC], target[known_NC])
