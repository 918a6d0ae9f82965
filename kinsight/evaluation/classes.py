"""A classifier on labelled images: what it says, how right that is, how sure it may be of it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import progress
from kinsight.data import ImageLoader, Records, read_records, require_images
from kinsight.data.multi_hot import MultiHot
from kinsight.errors import DataError, SpecError
from kinsight.evaluation.decision import Decision
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.image_intervals import image_intervals
from kinsight.evaluation.model import Model
from kinsight.metrics import (
    MultilabelResult,
    Reliability,
    Temperature,
    choose_thresholds,
    classification_metrics,
    fit_temperature,
    multilabel_metrics,
    probabilities,
    reliability,
    threshold_metrics,
)
from kinsight.metrics.blocks import CELLS, all_finite, row_blocks
from kinsight.models import Classifier
from kinsight.reports.classified import Classified
from kinsight.specs.classes import ClassesSpec
from kinsight.specs.data import Source


class Resampling(NamedTuple):
    """How intervals are drawn. resamples: 0: none are. seed: also of what is drawn for the page."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0


_USUAL_RESAMPLING = Resampling()


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
    one = not decision.several
    records = read_records(source, classes=decision.class_names, learned=True, labelled=one, single=one)
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
    """float32 (N, C) on the CPU, computed in blocks where the classifier is."""
    place, rows = classifier.weight.device, rows_at_once(classifier)
    logit_NC = torch.empty(len(emb_ND), classifier.form.num_classes)  # joining parts would take it twice
    with torch.inference_mode():
        for logit_BC, emb_BD in zip(logit_NC.split(rows), emb_ND.split(rows), strict=True):
            logit_BC.copy_(classifier(emb_BD.to(place)))
    return logit_NC


def rows_at_once(classifier: Classifier) -> int:
    """Images whose logits take little memory."""
    return max(1, CELLS // (classifier.form.num_classes * classifier.form.centres))


def check_ks(wanted: ClassesSpec, classes: int, *, field: str) -> None:
    """Refuse a k that was asked for and can tell nothing. Raises SpecError."""
    if wanted.differing("ks") and (vain := [k for k in wanted.ks if k not in usable_ks(wanted.ks, classes)]):
        raise SpecError(
            "spec.no-effect",
            "is accuracy" if vain[0] == 1 else f"is always 1 with {classes} classes",
            field=f"{field}={vain[0]}",
            remedy=f"give numbers from 2 to {classes - 1}" if classes > 2 else "leave it out",
        )


def usable_ks(ks: list[int], classes: int) -> list[int]:
    """Those that tell something: among as many classes as there are, the true one always is."""
    return [k for k in ks if 1 < k < classes]


def scored(
    records: Records, logit_NC: Tensor, index_N: np.ndarray, broken: list[tuple[str, str]], *, several: bool
) -> Scored:
    """index_N: the record of each row. several: whether images may have any number of labels."""
    target = MultiHot(records)[index_N] if several else records.label_N[index_N]
    return Scored(logit_NC, torch.from_numpy(target), records.uris.take(pa.array(index_N)), broken, records)


def judge(
    decision: Decision, found: Scored, wanted: ClassesSpec, resampling: Resampling = _USUAL_RESAMPLING
) -> Classified:
    """All that is measured: at the decision's own temperature and thresholds, and what these images would choose.

    Raises DataError for logits that are not finite.
    """
    if not all_finite(found.logit_NC):
        raise DataError(
            "evaluation.logits", "the model's logits are not all finite", remedy="look for a model that has diverged"
        )
    fitted = fit_temperature(found.logit_NC, found.target)
    measured = (_several if decision.several else _one)(decision, found, wanted, fitted)
    sure, calibrated = measured.reliability, measured.calibrated
    metrics = measured.means | {"ece": sure.ece, "temperature": fitted.temperature, "calibrated/ece": calibrated.ece}
    metrics |= {"images": len(found.target), "broken_images": len(found.broken)} | measured.further
    return Classified(
        class_names=decision.class_names,
        logit_NC=found.logit_NC,
        target=found.target,
        uri_N=found.uri_N,
        metrics=metrics | image_intervals(measured.by_image, *resampling),
        reliability=sure,
        calibrated=calibrated,
        fitted=fitted,
        temperature=decision.temperature,
        raw=measured.raw,
        threshold_C=decision.threshold_C,
        confidence=resampling.confidence,
        each_class=wanted.each_class,
        num_pictures=wanted.num_visualizations,
        seed=resampling.seed,
        **measured.results,
    )


class _Measured(NamedTuple):
    """What differs between one class an image and several labels.

    means, further: metrics. by_image: of some of them, what each image adds to the mean. results: all else, as
    `Classified` calls it, which says what reliability, calibrated and raw are, too.
    """

    means: dict[str, float]
    further: dict[str, float]
    by_image: dict[str, Tensor]
    reliability: Reliability
    calibrated: Reliability
    raw: Reliability | None
    results: dict[str, Any]


def _one(decision: Decision, found: Scored, wanted: ClassesSpec, fitted: Temperature) -> _Measured:
    ks = usable_ks(wanted.ks, len(decision.class_names))
    result = classification_metrics(found.logit_NC, found.target, ks)
    right = {"accuracy": (result.rank_N == 1).double()}
    right |= {f"top{k}_accuracy": (result.rank_N <= k).double() for k in ks}
    return _Measured(
        means=result.means,
        further={"classes": int((result.support_C > 0).sum())},
        by_image=right,
        reliability=_sure(found, decision.temperature),
        calibrated=_sure(found, fitted.temperature),
        raw=_sure(found, None) if decision.temperature is not None else None,
        results={"one": result},
    )


def _several(decision: Decision, found: Scored, wanted: ClassesSpec, fitted: Temperature) -> _Measured:
    """Thresholds are chosen on probabilities by the temperature that the bundle has with them: the one found here, but
    for one at its bound, which is not kept. Labels of which nothing is known here keep those that were chosen before.

    Probabilities are as large as the logits, so that they are made one after the other.
    """
    target_NC = found.target
    probability_NC = decision.probabilities(found.logit_NC)
    result = multilabel_metrics(probability_NC, target_NC, decision.threshold_C)
    sure, raw = reliability(probability_NC, target_NC), None
    del probability_NC
    if decision.temperature is not None:
        raw = reliability(probabilities(found.logit_NC, several=True), target_NC)
    probability_NC = probabilities(found.logit_NC, several=True, temperature=fitted.temperature)
    calibrated = reliability(probability_NC, target_NC)
    kept = decision.temperature if fitted.at_bound else fitted.temperature
    if fitted.at_bound:
        del probability_NC
        probability_NC = decision.probabilities(found.logit_NC)
    own_C = decision.chosen_at(kept)
    chosen = choose_thresholds(probability_NC, target_NC, precision=wanted.precision, own_C=own_C)
    at_chosen = threshold_metrics(probability_NC, target_NC, chosen.threshold_C)
    del probability_NC
    further: dict[str, float] = {"labels": result.num_labels}
    by_image = {"exact_match": _exact(result)}
    assert decision.threshold_C is not None, "of several labels"
    if chosen.differs_from(decision.threshold_C):
        further |= {f"chosen/{name}": value for name, value in at_chosen.means.items()}
        by_image["chosen/exact_match"] = _exact(at_chosen)
    if result.map_slope_N is not None and result.num_labels:  # as if each image had its own, whose mean is the whole's
        by_image["map"] = result.means["map"] + result.seen_N.sum() * result.map_slope_N[result.seen_N]
    results = {"several": result, "chosen": chosen, "at_chosen": at_chosen}
    return _Measured(result.means, further, by_image, sure, calibrated, raw, results)


def _exact(result: MultilabelResult) -> Tensor:
    """float64: for every image of which anything is known, whether all is right."""
    return (~result.wrong_N[result.seen_N]).double()


def _sure(found: Scored, temperature: float | None) -> Reliability:
    """Of the class said to be likeliest."""
    parts = []
    for logit_BC, label_B in row_blocks(found.logit_NC, found.target):
        confidence_B, predicted_B = probabilities(logit_BC, several=False, temperature=temperature).max(1)
        parts.append((confidence_B, predicted_B == label_B))
    confidence_N, right_N = (torch.cat(each) for each in zip(*parts, strict=True))
    return reliability(confidence_N, right_N)
