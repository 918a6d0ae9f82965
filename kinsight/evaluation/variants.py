"""Retrieval measured again: with fewer dimensions, and with what improves a search; each beside the search as it is.

Flat names in metrics.json, beside the plain ones, each with `.low` and `.high` where there are intervals:
`improved/recall@1`, `improved/recall@1.gain` (what it is above `recall@1`, its bounds from the same resamples of both),
`dim=64/recall@1`, `dim=64/improved/recall@1`, `dim=64/improved/recall@1.gain`.
"""

from collections.abc import Mapping
from typing import Any

import torch

from kinsight import progress
from kinsight.evaluation.improve import check_improvements, improved_search, open_projection, shortened_search
from kinsight.evaluation.matching import Alike
from kinsight.evaluation.measure import Measured
from kinsight.evaluation.ranking import Search, retrieve
from kinsight.evaluation.sides import Side
from kinsight.metrics import RetrievalResult, bootstrap_intervals
from kinsight.neighbors import Projection
from kinsight.reports.words import variant
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.storage import Address

__all__ = ["add_variants", "check_improvements"]


def add_variants(
    spec: EvaluateSpec,
    query: Side,
    gallery: Side | None,
    device: torch.device,
    found: Measured,
    hashes: Mapping[str, Any],
) -> None:
    """Add to `found` what the settings ask for beside the plain search. hashes: see `open_projection`."""
    if not spec.sizes and not spec.improvements:
        return
    alike = found.matching.alike
    projection = open_projection(spec, query, gallery, hashes)
    found.improvements = _described(spec, projection, len(gallery or query))
    for line in found.improvements:
        progress.say(f"improved    {line}")
    full = query.vector_ND.shape[1]
    if spec.improvements:
        kept = projection.axes_DE.shape[1] if projection is not None else full
        found.metrics[variant("dimensions", improved=True)] = kept
    sides_ND = [side.vector_ND for side in (query, gallery) if side is not None]
    for size in [None, *(size for size in sorted(spec.sizes) if size < full)]:
        plain = found.retrieval
        if size is not None:
            search = shortened_search(sides_ND, size)
            plain = _measured(spec, query, gallery, device, search, alike, f"rank, {size} dimensions")
            _add(spec, found, variant("", size), plain)
        if spec.improvements:
            search = improved_search(spec, query, gallery, device, projection, size)
            named = "rank, improved" + (f", {size} dimensions" if size is not None else "")
            better = _measured(spec, query, gallery, device, search, alike, named)
            _add(spec, found, variant("", size, improved=True), better, plain)


def _measured(
    spec: EvaluateSpec,
    query: Side,
    gallery: Side | None,
    device: torch.device,
    search: Search,
    alike: Alike | None,
    name: str,
) -> RetrievalResult:
    with progress.task(name, len(query), "queries") as task:
        return retrieve(spec, query, gallery, device, task, search, alike)[0]


def _add(
    spec: EvaluateSpec, found: Measured, prefix: str, result: RetrievalResult, plain: RetrievalResult | None = None
) -> None:
    """The means, the gains over `plain`, and the bounds of both."""
    per_query = dict(result.per_query)
    if plain is not None:
        before = plain.per_query
        per_query |= {f"{name}.gain": value_Q.cpu() - before[name].cpu() for name, value_Q in result.per_query.items()}
    matched_Q = result.ranks.positives_Q.cpu() > 0
    for name, value_Q in per_query.items():
        found.metrics[prefix + name] = float(value_Q.cpu()[matched_Q].mean())
    if not spec.bootstrap or "intervals" in found.reasons:
        return
    intervals = bootstrap_intervals(
        result.class_Q, per_query, confidence=spec.confidence, resamples=spec.bootstrap, seed=spec.seed
    )
    for name, interval in intervals.items():
        found.metrics[f"{prefix}{name}.low"], found.metrics[f"{prefix}{name}.high"] = interval.low, interval.high


def _described(spec: EvaluateSpec, projection: Projection | None, number: int) -> list[str]:
    """What is done, in its order, one line each."""
    lines = []
    if projection is not None and spec.projection is not None:
        dim, kept = projection.axes_DE.shape[1], 100 * projection.kept
        what = "whitening" if spec.projection.kind == "whiten" else "principal components"
        origin = str(Address.parse(spec.projection.fit)) if spec.projection.fit is not None else "the gallery"
        lines.append(f"{what}: {dim} dimensions with {kept:.1f} % of the variance, fitted on {origin}")
    for name, wanted in (("gallery", spec.gallery_expansion), ("query", spec.query_expansion)):
        if wanted is not None:
            how = f"alpha {wanted.alpha:g}" if wanted.kind == "alpha" else "average"
            lines.append(f"{name} expansion: {wanted.k} neighbours, {how}")
    if spec.rerank is not None:
        depth = min(spec.rerank.depth, number)
        lines.append(
            f"k-reciprocal re-ranking of the first {depth:,}: k1 {spec.rerank.k1}, k2 {spec.rerank.k2}, "
            f"weight {spec.rerank.weight:g}; behind them the order of the search"
        )
    return lines
