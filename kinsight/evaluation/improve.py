"""The same search made better: other dimensions, moved vectors, re-ranking; in this order, each on what came before.

In leave-one-out no item helps itself: a projection is fitted on other vectors, a query is no neighbour of its own, and
gallery vectors that a query pulled towards itself are formed again without it. Re-ranking then has each item in its set
once, as the query it is; what it orders, and the distances to it, come from the search.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kinsight import progress
from kinsight.data.stored import Embeddings, load_embeddings
from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.evaluation.ranking import Search
from kinsight.evaluation.sides import Side
from kinsight.neighbors import (
    AugmentedSet,
    Nearest,
    Projection,
    augment_gallery,
    expand_queries,
    fit_projection,
    k_reciprocal,
    nearest,
    shortened,
)
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.refine import AlphaExpansion, AverageExpansion, Whitening
from kinsight.storage import Address


def check_improvements(spec: EvaluateSpec, query: Side, gallery: Side | None) -> None:
    """Raise SpecError for settings that the data at hand is too small for, before anything is computed."""
    number, dim = len(gallery or query), query.vector_ND.shape[1]
    own = gallery is None
    together = number if own else number + len(query)
    limits: list[tuple[str, int | None, int, str]] = []
    limits += [("sizes", size, dim, "dimensions of the vectors") for size in spec.sizes]
    if spec.projection is not None:
        limits.append(("projection.dim", spec.projection.dim, dim, "dimensions of the vectors"))
    if spec.gallery_expansion is not None:
        what = "items beside a query and what it looks at" if own else "other items of the gallery"
        limits.append(("gallery_expansion.k", spec.gallery_expansion.k, number - 1 - own, what))
    if spec.query_expansion is not None:
        what = "items a query can meet"
        limits.append(("query_expansion.k", spec.query_expansion.k, number - own, what))
    if spec.rerank is not None:
        limits.append(("rerank.k1", spec.rerank.k1, together - 1, "other items, queries and gallery together"))
    for field, value, most, what in limits:
        if value is not None and value > most:
            raise SpecError(
                "evaluate.too-large",
                f"is {value}; there are {most:,} {what}",
                field=field,
                remedy=f"give at most {most:,}" if most > 0 else "evaluate on more images",
            )


def open_projection(
    spec: EvaluateSpec, query: Side, gallery: Side | None, hashes: Mapping[str, Any]
) -> Projection | None:
    """The projection asked for, fitted on the gallery or on stored embeddings; never on the queries.

    hashes: what is known of the model behind the vectors: `model`, `model_hash`.
    """
    wanted = spec.projection
    if wanted is None:
        return None
    if wanted.fit is not None:
        found = load_embeddings(wanted.fit)
        _need_others(spec, found, query, hashes)
        fitted_ND = found.vector_ND
    else:
        assert gallery is not None, "the spec has seen to it"
        fitted_ND = gallery.vector_ND
    shrinkage = wanted.shrinkage if isinstance(wanted, Whitening) else 0.0
    with _about("projection"):
        return fit_projection(
            fitted_ND,
            wanted.dim,
            whiten=isinstance(wanted, Whitening),
            shrinkage=shrinkage,
            normalize=wanted.normalize,
        )


def improved_search(
    spec: EvaluateSpec,
    query: Side,
    gallery: Side | None,
    device: torch.device,
    projection: Projection | None,
    size: int | None = None,
) -> Search:
    """The search as the settings want it. size: of the (projected) dimensions only the first so many."""
    sides_ND = [side.vector_ND for side in (query, gallery) if side is not None]
    if projection is not None:
        with _about("projection"):
            sides_ND = [projection(side_ND) for side_ND in sides_ND]
    search = shortened_search(sides_ND, size)
    own = gallery is None
    if spec.gallery_expansion is not None:
        with _about("gallery_expansion"):
            search = _with_gallery_moved(spec.gallery_expansion, search, device, own)
    if spec.query_expansion is not None:
        with _about("query_expansion"):
            search = _with_queries_moved(spec.query_expansion, search, device, own)
    if spec.rerank is not None:
        with _about("rerank"):
            search = _reranked(spec, search, device, own)
    return search


def shortened_search(sides_ND: list[Tensor], size: int | None) -> Search:
    """Queries and gallery (leave-one-out: the one side twice), the first `size` dimensions of them."""
    if size is not None and size < sides_ND[0].shape[1]:
        with _about("sizes"):
            sides_ND = [shortened(side_ND, size) for side_ND in sides_ND]
    return Search(sides_ND[0], sides_ND[-1])


def _with_gallery_moved(
    wanted: AverageExpansion | AlphaExpansion, search: Search, device: torch.device, own: bool
) -> Search:
    with progress.task("gallery expansion", len(search.gallery_ND), "vectors") as task:
        if not own:
            moved_ND = augment_gallery(
                search.gallery_ND, wanted.k, alpha=_alpha(wanted), device=device, advance=task.advance
            )
            return Search(search.query_QD, moved_ND)
        together = AugmentedSet(search.gallery_ND, wanted.k, alpha=_alpha(wanted), device=device, advance=task.advance)
    return Search(search.query_QD, together.vector_ND.cpu(), together)


def _with_queries_moved(
    wanted: AverageExpansion | AlphaExpansion, search: Search, device: torch.device, own: bool
) -> Search:
    query_QD, augmented = search.query_QD, search.augmented
    own_Q = torch.arange(len(query_QD))
    with progress.task("query expansion", len(query_QD), "queries") as task:
        if augmented is not None:
            moved_QD = augmented.expanded(query_QD, own_Q, wanted.k, alpha=_alpha(wanted), advance=task.advance)
        else:
            moved_QD = expand_queries(
                query_QD,
                search.gallery_ND,
                wanted.k,
                alpha=_alpha(wanted),
                exclude=own_Q if own else None,
                device=device,
                advance=task.advance,
            )
    return Search(moved_QD.cpu(), search.gallery_ND, augmented)


def _reranked(spec: EvaluateSpec, search: Search, device: torch.device, own: bool) -> Search:
    wanted = spec.rerank
    assert wanted is not None
    queries, items = len(search.query_QD), len(search.query_QD) + (0 if own else len(search.gallery_ND))
    total = (3 if wanted.k2 > 1 else 2) * items + queries
    moved = spec.gallery_expansion is not None or spec.query_expansion is not None
    with progress.task("re-rank", total + queries * (own and moved), "items") as task:
        found = k_reciprocal(
            search.query_QD,
            None if own else search.gallery_ND,
            k1=wanted.k1,
            k2=wanted.k2,
            weight=wanted.weight,
            depth=wanted.depth,
            metric=spec.metric,
            candidates=_candidates(search, wanted.depth, spec, device, task) if own and moved else None,
            device=device,
            advance=task.advance,
        )
    return Search(search.query_QD, search.gallery_ND, search.augmented, found.place_QK.cpu())


def _candidates(search: Search, depth: int, spec: EvaluateSpec, device: torch.device, task: progress.Task) -> Nearest:
    """What a leave-one-out search finds once queries or gallery have moved."""
    own_Q = torch.arange(len(search.query_QD))
    depth = min(depth, len(own_Q) - 1)
    if search.augmented is not None:
        return search.augmented.nearest(search.query_QD, own_Q, depth, advance=task.advance)
    return nearest(
        search.query_QD,
        search.gallery_ND,
        depth,
        metric=spec.metric,
        exclude=own_Q.to(device),
        device=device,
        advance=task.advance,
    )


def _alpha(wanted: AverageExpansion | AlphaExpansion) -> float:
    return wanted.alpha if isinstance(wanted, AlphaExpansion) else 0.0


def _need_others(spec: EvaluateSpec, found: Embeddings, query: Side, hashes: Mapping[str, Any]) -> None:
    """Raise where the vectors to fit on are the queries, or another model's."""
    dim, theirs = query.vector_ND.shape[1], found.vector_ND.shape[1]
    if theirs != dim:
        raise DataError(
            "embeddings.length",
            f"holds vectors of length {theirs}, those to be projected have {dim}",
            field="projection.fit",
            remedy="embed both with the same model",
        )
    fingerprint = found.header.get("data_fingerprint")
    assert spec.projection is not None and spec.projection.fit is not None
    same_place = spec.embeddings is not None and Address.parse(spec.embeddings) == Address.parse(spec.projection.fit)
    if same_place or (fingerprint is not None and fingerprint == query.fingerprint):
        raise SpecError(
            "evaluate.fitted-on-queries",
            "holds the queries themselves, which a projection must not know",
            field="projection.fit",
            remedy="embed other images, such as those of the training",
        )
    known, hash_ = hashes.get("model_hash"), found.header.get("model_hash")
    if known and hash_ and known != hash_:
        raise DataError(
            "embeddings.other-model",
            f"was made by {found.header.get('model')}, the queries by {hashes.get('model')}",
            field="projection.fit",
            remedy="embed both with the same model",
        )


@contextmanager
def _about(field: str) -> Iterator[None]:
    """Name the setting in errors that don't name one."""
    try:
        yield
    except KinsightError as error:
        inner = f"{field}.{error.field}" if error.field else field
        raise type(error)(error.code, error.message, field=inner, remedy=error.remedy) from error
