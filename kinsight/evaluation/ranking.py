"""Retrieval metrics as an evaluation takes them: in blocks of queries, so that progress shows and memory stays bounded.

The ranks of one block are held at a time; what remains of it is a number per query and metric, and its best ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight import progress
from kinsight.errors import DataError
from kinsight.evaluation.matching import Alike
from kinsight.evaluation.sides import Side
from kinsight.metrics import AlikePairs, PairRelation, Reordered, RetrievalResult, retrieval_metrics
from kinsight.neighbors import AugmentedSet, Metric, PositiveRanks, ranks
from kinsight.specs.evaluate import EvaluateSpec

# Beyond, mAP and MRR, which look at every rank, would take hours.
MOST_SIMILARITIES = 10**10
_MOST_MATCHES = 2**24  # of a block's queries: as many ranks may have to be held
_MOST_PAIRS = 2**26  # of a block's queries and the gallery, where likeness is asked pair by pair
_QUERIES = 4096  # of a block, at least, and
_BLOCKS = 16  # blocks, at most, where matches are few: for each the gallery is prepared anew


@dataclass(frozen=True)
class Search:
    """A search with other vectors than the sides', or with its first results in another order.

    query_QD, gallery_ND: float32; in leave-one-out both of the same items. augmented: in leave-one-out, a gallery whose
    vectors depend on who searches. place_QK: see `neighbors.Reranked`.
    """

    query_QD: Tensor
    gallery_ND: Tensor
    augmented: AugmentedSet | None = None
    place_QK: Tensor | None = None


def retrieve(
    spec: EvaluateSpec,
    query: Side,
    gallery: Side | None,
    device: torch.device,
    task: progress.Task,
    search: Search | None = None,
    alike: Alike | None = None,
) -> tuple[RetrievalResult, str | None]:
    """All retrieval metrics, and why mAP and MRR are not among them (None: they are).

    search: where the vectors compared are not those of the sides. alike: what is right, where it is not the label.
    Of the result's ranks only each query's best one is listed. Raises DataError where no query has a match.
    """
    searched = gallery or query
    as_given = search is None
    search = search or Search(query.vector_ND, searched.vector_ND)
    if alike is not None:
        return _retrieve_alike(spec, alike.to(device), query.label_N, search, gallery is None, device, task), None
    match_Q = _matches(query.label_N, searched.label_N) - int(gallery is None)
    _need_match(match_Q)
    similarities = len(query) * len(searched)
    left_out = None
    if similarities > MOST_SIMILARITIES:
        left_out = f"needs every rank, and {similarities:.1e} similarities are more than {MOST_SIMILARITIES:.0e}"
    if as_given and gallery is None and left_out is not None and int(match_Q.sum()) <= _MOST_MATCHES:
        # one walk over half of the similarities is worth more than a bar that moves
        found = retrieval_metrics(query.vector_ND, query.label_N, ks=spec.ks, metric=spec.metric, device=device)
        task.advance(len(query))
        return found, left_out
    parts = []
    for row_B in _blocks(match_Q, few=left_out is None):
        label_B = query.label_N[row_B]
        parts.append(
            retrieval_metrics(
                search.gallery_ND,
                _relation(search, label_B, searched.label_N, match_Q[row_B], row_B, gallery is None),
                query=(search.query_QD[row_B], label_B),
                ks=spec.ks,
                whole=left_out is None,
                metric=spec.metric,
                device=device,
            )
        )
        task.advance(len(row_B))
    return _joined(parts, query.label_N, match_Q), left_out


def _retrieve_alike(
    spec: EvaluateSpec,
    alike: Alike,
    class_Q: Tensor,
    search: Search,
    own: bool,
    device: torch.device,
    task: progress.Task,
) -> RetrievalResult:
    """All metrics, mAP and MRR too, for they cost nothing more where every score is sorted."""
    assert search.augmented is None, "such a gallery is for one label each"
    counts, parts = [], []
    for row_B in torch.arange(len(class_Q)).split(max(1, _MOST_PAIRS // len(search.gallery_ND))):
        positive_BN = alike.positive_BN(row_B)
        if own:
            positive_BN[torch.arange(len(row_B)), row_B] = False
        counts.append(positive_BN.sum(1).cpu())
        kept_B = counts[-1] > 0
        row_M = row_B[kept_B]
        if len(row_M):
            relation = AlikePairs(positive_BN[kept_B], row_M if own else None)
            parts.append(
                retrieval_metrics(
                    search.gallery_ND,
                    relation if search.place_QK is None else Reordered(relation, search.place_QK[row_M]),
                    query=(search.query_QD[row_M], row_M),
                    ks=spec.ks,
                    whole=True,
                    metric=spec.metric,
                    device=device,
                )
            )
        task.advance(len(row_B))
    match_Q = torch.cat(counts)
    _need_match(match_Q)
    return _joined(parts, class_Q, match_Q)


def _need_match(match_Q: Tensor) -> None:
    if not int(match_Q.sum()):
        raise DataError(
            "evaluation.no-match",
            f"none of the {len(match_Q)} queries has a match left",
            field="data",
            remedy="look at the broken images, or evaluate on more images per class",
        )


def _relation(
    search: Search, label_B: Tensor, label_N: Tensor, match_B: Tensor, row_B: Tensor, leave_one_out: bool
) -> PairRelation:
    block = _Block(label_B, label_N, match_B, row_B if leave_one_out else None, search.augmented)
    return block if search.place_QK is None else Reordered(block, search.place_QK[row_B])


@dataclass(frozen=True)
class _Block:
    """A `PairRelation`: some queries and the whole gallery. match_Q: how many matches each query has.

    exclude_Q: the gallery's row that is the query itself. augmented: see `Search`.
    """

    query_class_Q: Tensor
    gallery_label_N: Tensor
    match_Q: Tensor
    exclude_Q: Tensor | None
    augmented: AugmentedSet | None = None

    def positive_ranks(
        self,
        query_QD: Tensor,
        gallery_ND: Tensor | None,
        *,
        metric: Metric,
        first_max_rank: int,
        whole: bool,
        positives_max_rank: int,
        device: torch.device | str | None,
    ) -> PositiveRanks:
        """See `PairRelation`."""
        assert gallery_ND is not None
        depth_Q = None if whole else self.match_Q.clamp(min=positives_max_rank)
        if self.augmented is not None:
            assert self.exclude_Q is not None, "such a gallery is for leave-one-out"
            return self.augmented.ranks(
                query_QD, self.exclude_Q, self.gallery_label_N, max_rank=depth_Q, first_max_rank=first_max_rank
            )
        return ranks(
            query_QD,
            self.query_class_Q,
            gallery_ND,
            self.gallery_label_N,
            metric=metric,
            exclude=self.exclude_Q,
            max_rank=depth_Q,
            first_max_rank=first_max_rank,
            device=device,
        )


def _matches(query_label_Q: Tensor, gallery_label_N: Tensor) -> Tensor:
    """How many rows of the gallery have each query's label."""
    classes = int(max(query_label_Q.max(), gallery_label_N.max())) + 1
    return gallery_label_N.bincount(minlength=classes)[query_label_Q]


def _blocks(match_Q: Tensor, *, few: bool) -> Iterator[Tensor]:
    """Rows of the queries that have a match, a block at a time. few: many small blocks cost little."""
    row_M = match_Q.nonzero().squeeze(1)
    size = max(_QUERIES, -(-len(row_M) // _BLOCKS)) if few else len(row_M)
    size = max(1, min(size, _MOST_MATCHES // int(match_Q.max())))
    yield from row_M.split(size)


def _joined(parts: list[RetrievalResult], class_Q: Tensor, match_Q: Tensor) -> RetrievalResult:
    """The results of all blocks, with the queries that have no match."""
    matched_Q = match_Q > 0
    per_query = {name: _spread([part.per_query[name] for part in parts], matched_Q) for name in parts[0].per_query}
    means = {name: float(value_Q[matched_Q].mean()) for name, value_Q in per_query.items()}
    number = int(matched_Q.sum())
    first_M = torch.cat([part.ranks.first_Q().cpu() for part in parts])
    listed_Q = torch.zeros_like(match_Q)
    listed_Q[matched_Q] = (first_M > 0).long()
    best = PositiveRanks(
        torch.nn.functional.pad(listed_Q.cumsum(0), (1, 0)),
        first_M[first_M > 0],
        match_Q,
        torch.zeros_like(match_Q),
        _spread([part.ranks.first_depth_Q for part in parts], matched_Q).nan_to_num().long(),
        parts[0].ranks.num_gallery,
    )
    return RetrievalResult(means, per_query, number, len(match_Q) - number, class_Q, best)


def _spread(value_M: list[Tensor], matched_Q: Tensor) -> Tensor:
    """float64 (Q,) with the blocks' values where there is a match, else NaN."""
    value_Q = torch.full(matched_Q.shape, torch.nan, dtype=torch.float64)
    value_Q[matched_Q] = torch.cat(value_M).cpu().double()
    return value_Q
