"""All numbers of an evaluation, from two sides of labelled vectors."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from kinsight import progress
from kinsight.errors import DataError
from kinsight.evaluation.matching import Alike, LevelLabels, Matching
from kinsight.evaluation.ranking import retrieve
from kinsight.evaluation.sides import Side
from kinsight.metrics import (
    DrawnPairs,
    RetrievalResult,
    bootstrap_intervals,
    decision_thresholds,
    draw_pairs,
    pair_intervals,
    rate_name,
    verification_metrics,
)
from kinsight.models import ThresholdPoint, Thresholds
from kinsight.reports.words import at_level
from kinsight.specs.evaluate import EvaluateSpec

_BY_LABEL = Matching()


@dataclass
class Measured:
    """metrics: flat name -> number, None where the data cannot tell; reasons: why, by name. thresholds: similarities
    behind the verification numbers, by name. decision: thresholds with bounded error rates, as bundles carry them; None
    where no pairs can be drawn. pairs: what verification was measured on. improvements: what the `improved/` metrics
    were measured with, in its order; verification and thresholds always belong to the plain vectors. matching: who is
    right.
    """

    metrics: dict[str, Any]
    reasons: dict[str, str]
    thresholds: dict[str, float]
    retrieval: RetrievalResult
    decision: Thresholds | None = None
    pairs: DrawnPairs | None = None
    improvements: list[str] = field(default_factory=list)
    matching: Matching = _BY_LABEL


_NEEDS_ONE_LABEL = "needs one label per image, and images have several"


def measure(
    spec: EvaluateSpec, query: Side, gallery: Side | None, device: torch.device, matching: Matching = _BY_LABEL
) -> Measured:
    """Retrieval with intervals over classes, at each level, and verification.

    Raises DataError where no query has a match.
    """
    searched = gallery or query
    if matching.told is not None:
        progress.say(f"relation    {matching.told}")
    with progress.task("rank", len(query), "queries") as task:
        retrieval, left_out = retrieve(spec, query, gallery, device, task, alike=matching.alike)
    found = Measured(dict(retrieval.means), {}, {}, retrieval, matching=matching)
    if left_out is not None:
        found.metrics.update({"map": None, "mrr": None})
        found.reasons.update({"map": left_out, "mrr": left_out})
    if spec.bootstrap:
        _add_intervals(spec, found, retrieval)
    if matching.alike is None:
        _add_verification(spec, found, query, gallery)
    else:
        missing = ("verification", "thresholds", "confused classes")
        found.reasons.update(dict.fromkeys(missing, _NEEDS_ONE_LABEL))
        progress.say(f"left out    {', '.join(missing)}: {_NEEDS_ONE_LABEL}")
    found.reasons.update(matching.reasons)
    for name, why in matching.reasons.items():
        progress.warn(f"{name} is not measured: {why}")
    for name, level in matching.levels.items():
        _add_level(spec, found, query, gallery, device, name, level)
    found.metrics["queries"] = retrieval.num_queries
    found.metrics["queries_without_match"] = retrieval.num_skipped
    found.metrics["gallery"] = len(searched)
    label_M = query.label_N if query.labels_NL is None else query.labels_NL[query.labels_NL >= 0]
    found.metrics["classes"] = int(label_M.unique().numel())
    found.metrics["broken_images"] = len(query.broken) + (len(gallery.broken) if gallery is not None else 0)
    return found


def _add_level(
    spec: EvaluateSpec,
    found: Measured,
    query: Side,
    gallery: Side | None,
    device: torch.device,
    name: str,
    level: LevelLabels | Alike,
) -> None:
    """The same search, judged by coarser labels, which are then what is resampled, or by likeness."""
    alike = level if isinstance(level, Alike) else None
    if not isinstance(level, Alike):
        query = replace(query, label_N=level[0])
        gallery = replace(gallery, label_N=level[1]) if gallery is not None else None
    try:
        with progress.task(f"rank by {name}", len(query), "queries") as task:
            retrieval, _ = retrieve(spec, query, gallery, device, task, alike=alike)
    except DataError as error:
        found.reasons[at_level("", name).rstrip("/")] = error.message
        return
    found.metrics.update({at_level(metric, name): value for metric, value in retrieval.means.items()})
    if spec.bootstrap:
        _add_intervals(spec, found, retrieval, name)


def _add_intervals(spec: EvaluateSpec, found: Measured, retrieval: RetrievalResult, level: str | None = None) -> None:
    try:
        intervals = bootstrap_intervals(
            retrieval.class_Q,
            retrieval.per_query,
            confidence=spec.confidence,
            resamples=spec.bootstrap,
            seed=spec.seed,
        )
    except DataError as error:
        sets = found.matching.alike is not None  # they take the place of classes
        found.reasons[at_level("intervals", level)] = error.message.replace(
            "classes", "sets of labels" * sets or "classes"
        )
        return
    for metric, interval in intervals.items():
        name = at_level(metric, level)
        found.metrics[f"{name}.low"], found.metrics[f"{name}.high"] = interval.low, interval.high


def _add_verification(spec: EvaluateSpec, found: Measured, query: Side, gallery: Side | None) -> None:
    """From pairs of all images; with a gallery, those of both sides."""
    sides = [side for side in (query, gallery) if side is not None]
    label_N = torch.cat([side.label_N for side in sides])
    try:
        pairs = draw_pairs(
            torch.cat([side.vector_ND for side in sides]) if gallery is not None else query.vector_ND,
            label_N,
            max_pairs=spec.max_pairs,
            seed=spec.seed,
            metric=spec.metric,
        )
    except DataError as error:
        found.reasons["verification"] = error.message
        return
    verification = verification_metrics(pairs.same_P, pairs.different_P, fprs=spec.fprs, seed=spec.seed)
    found.metrics.update(verification.means)
    found.reasons.update(verification.reasons)
    found.thresholds.update(verification.thresholds)
    found.metrics["same_pairs"], found.metrics["different_pairs"] = len(pairs.same_P), len(pairs.different_P)
    found.pairs, found.decision = pairs, _decision(spec, pairs, label_N, query.fingerprint)
    if spec.bootstrap:
        _add_pair_intervals(spec, found, pairs, found.decision, label_N)


def _add_pair_intervals(
    spec: EvaluateSpec, found: Measured, pairs: DrawnPairs, decision: Thresholds, label_N: torch.Tensor
) -> None:
    """Bounds of the curve's numbers, and of the rates whose thresholds have bounds."""
    bounds = {
        name: (interval.low, interval.high)
        for name, interval in pair_intervals(pairs, label_N, confidence=spec.confidence, seed=spec.seed).items()
    }
    for point in decision.points:
        rate = rate_name(point.fmr)
        bounds[f"tpr@fpr={rate}"] = (point.tmr_low, point.tmr_high)
        bounds[f"fnmr@fmr={rate}"] = (1 - point.tmr_high, 1 - point.tmr_low)
    for name, (low, high) in bounds.items():
        found.metrics[f"{name}.low"], found.metrics[f"{name}.high"] = low, high


def _decision(spec: EvaluateSpec, pairs: DrawnPairs, label_N: torch.Tensor, fingerprint: str | None) -> Thresholds:
    points, unsupported = decision_thresholds(
        pairs, label_N, fmrs=spec.fprs, confidence=spec.confidence, seed=spec.seed
    )
    return Thresholds(
        metric=spec.metric,
        confidence=spec.confidence,
        classes=int(label_N.unique().numel()),
        same_pairs=len(pairs.same_P),
        different_pairs=len(pairs.different_P),
        data_fingerprint=fingerprint,
        points=tuple(ThresholdPoint(**asdict(point)) for point in points),
        unsupported=unsupported,
    )
