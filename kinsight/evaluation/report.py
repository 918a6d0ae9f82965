"""The page of an evaluation, from what it measured."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from kinsight.evaluation.measure import Measured
from kinsight.evaluation.sides import Side
from kinsight.reports.evaluated import Evaluated
from kinsight.specs.evaluate import EvaluateSpec


def evaluated(spec: EvaluateSpec, query: Side, gallery: Side | None, found: Measured) -> Evaluated:
    """An evaluation as reports take it."""
    return Evaluated(
        query=query,
        gallery=gallery,
        metrics=found.metrics,
        reasons=found.reasons,
        retrieval=found.retrieval,
        pairs=found.pairs,
        thresholds=found.decision,
        metric=spec.metric,
        confidence=spec.confidence,
        seed=spec.seed,
        improvements=tuple(found.improvements),
        alike=found.matching.alike,
        labels_QL=query.labels_NL,
        label_names=query.label_names,
    )


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of what is known, and of the libraries that decide numbers; and when."""
    known = [(name, str(value)) for name, value in values.items() if value is not None]
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [*known, ("torch", torch.__version__), ("threads", str(torch.get_num_threads())), ("written", written)]


def broken_images(query: Side, gallery: Side | None) -> Sequence[tuple[str, str]]:
    """(address, reason) of the images that neither side could use."""
    return [*query.broken, *(gallery.broken if gallery is not None else ())]
