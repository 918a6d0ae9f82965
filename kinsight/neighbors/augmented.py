"""Database-side augmentation where the queries are the database: each searches among the others, without itself.

A row is moved towards its k nearest others; the query at hand must not be one of them, or it would have pulled its own
answers towards itself. So the few rows that a query helped are formed again without it, from their k nearest others
but the query, for that query alone. What comes out is what augmenting the set without the query gives, for each query.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import dense
from kinsight.neighbors.expansion import summed, unit_rows, weights
from kinsight.neighbors.nearest_rows import Advance, Nearest, nearest
from kinsight.neighbors.ranking import WHOLE, PositiveRanks
from kinsight.neighbors.vectors import GridVectors, exact_pairs, grid, on_grid

_PAIRS = 2**14  # rows formed again at a time


class AugmentedSet:
    """A set for leave-one-out, cosine similarity: vector_ND, float32 at unit length, as all but a row's helpers see it.

    set_ND: floating-point rows. k: neighbours, at most N - 2. alpha: see `expansion`. Raises DataError as `nearest`.
    """

    def __init__(
        self,
        set_ND: Tensor,
        k: int,
        *,
        alpha: float = 0.0,
        device: torch.device | str | None = None,
        advance: Advance | None = None,
    ) -> None:
        number = len(set_ND)
        if not 1 <= k <= number - 2:
            raise DataError(
                "neighbors.k",
                f"k={k}: must be from 1 to {number - 2}, the number of items beside a query and what it looks at",
                remedy="lower k or add items",
            )
        self.device = torch.device(device) if device is not None else set_ND.device
        own_N = torch.arange(number, device=self.device)
        found = nearest(set_ND, set_ND, k + 1, exclude=own_N, device=self.device, advance=advance)
        self._unit_ND = unit_rows(set_ND, "embeddings").to(self.device)
        self._near_NK1, self._weight_NK1 = found.index_QK, weights(found.similarity_QK, alpha)
        blocks = (
            summed(self._unit_ND[row_B], self._unit_ND, self._near_NK1[row_B, :k], self._weight_NK1[row_B, :k])
            for row_B in own_N.split(_PAIRS)
        )
        self.vector_ND = torch.cat(list(blocks))
        # who helped whom, by helper: entry p says that helper_P[p] is neighbour place_P[p] of row helped_P[p]
        order = self._near_NK1[:, :k].reshape(-1).sort(stable=True)
        self._helped_P, self._place_P = order.indices // k, order.indices % k
        self._start_N = torch.zeros(number + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(torch.bincount(order.values, minlength=number), 0, out=self._start_N[1:])

    def __len__(self) -> int:
        return len(self.vector_ND)

    def score_blocks(
        self, query_QD: Tensor, row_Q: Tensor, memory_bytes: int = 2**27
    ) -> Iterator[tuple[slice, Tensor]]:
        """(queries, float64 (B, N) exact cosines) block by block. row_Q: int64, which row of the set each query is:
        it scores -inf, and what it helped is seen without its help."""
        row_Q = row_Q.to(self.device)
        query, gallery = grid(query_QD, self.vector_ND, "cosine", self.device)
        for here, score_BN in dense.score_blocks(query, gallery, row_Q, memory_bytes // 6):
            start_B, stop_B = self._start_N[row_Q[here]], self._start_N[row_Q[here] + 1]
            for part in _parts(start_B, stop_B):
                query_P, entry_P = part
                helped_P = self._helped_P[entry_P]
                seen = self._without_help(helped_P, self._place_P[entry_P])
                pair_P = torch.arange(len(query_P), device=self.device)
                score_BN[query_P, helped_P] = exact_pairs(query, seen, query_P + here.start, pair_P)
            yield here, score_BN

    def nearest(self, query_QD: Tensor, row_Q: Tensor, k: int, *, advance: Advance | None = None) -> Nearest:
        """The k nearest, as `score_blocks` sees them. Raises DataError where k is above N - 1."""
        if not 1 <= k <= len(self) - 1:
            raise DataError(
                "neighbors.k",
                f"k={k}: must be from 1 to {len(self) - 1}, the number of other items",
                remedy="lower k or add items",
            )
        similarity, index = [], []
        for here, score_BN in self.score_blocks(query_QD, row_Q):
            value_BK, index_BK = dense.topk_rows(score_BN, k)
            similarity.append(value_BK)
            index.append(index_BK)
            if advance is not None:
                advance(here.stop - here.start)
        lowest_Q = torch.empty(0, dtype=torch.float64, device=self.device)
        return Nearest(torch.cat(similarity), torch.cat(index), lowest_Q)

    def ranks(
        self,
        query_QD: Tensor,
        row_Q: Tensor,
        label_N: Tensor,
        *,
        max_rank: Tensor | None = None,
        first_max_rank: int = 0,
        advance: Advance | None = None,
    ) -> PositiveRanks:
        """As `neighbors.ranks`, as `score_blocks` sees the set; label_N: int64 of its rows, hence of the queries."""
        label_N, row_Q = label_N.to(self.device), row_Q.to(self.device)
        label_Q = label_N[row_Q]
        count_C = torch.bincount(label_N)
        positives_Q = count_C[label_Q] - 1
        depth_Q = torch.full_like(positives_Q, WHOLE) if max_rank is None else max_rank.to(positives_Q)
        first_Q = depth_Q.clamp(min=first_max_rank)
        queries, found = [row_Q[:0]], [row_Q[:0]]
        for here, score_BN in self.score_blocks(query_QD, row_Q):
            row_P, rank_P = dense.positive_ranks(score_BN, label_Q[here], label_N)
            first_P = torch.ones_like(row_P, dtype=torch.bool)
            first_P[1:] = row_P[1:] != row_P[:-1]
            row_P += here.start
            keep_P = (rank_P <= depth_Q[row_P]) | (first_P & (rank_P <= first_Q[row_P]))
            queries.append(row_P[keep_P])
            found.append(rank_P[keep_P])
            if advance is not None:
                advance(here.stop - here.start)
        start_Q = torch.zeros(len(row_Q) + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(torch.bincount(torch.cat(queries), minlength=len(row_Q)), 0, out=start_Q[1:])
        return PositiveRanks(start_Q, torch.cat(found), positives_Q, depth_Q, first_Q, len(self))

    def expanded(
        self, query_QD: Tensor, row_Q: Tensor, k: int, *, alpha: float = 0.0, advance: Advance | None = None
    ) -> Tensor:
        """`expand_queries` in this set: each query meets the rows as they are without its own help."""
        found = self.nearest(query_QD, row_Q, k, advance=advance)
        unit_QD, row_Q = unit_rows(query_QD, "query"), row_Q.to(self.device)
        weight_QK = weights(found.similarity_QK, alpha)
        out_QD = torch.empty_like(unit_QD)
        step = max(1, _PAIRS // k)
        for start in range(0, len(row_Q), step):
            here = slice(start, start + step)
            seen_MD = self._seen(row_Q[here], found.index_QK[here])
            place_BK = torch.arange(len(seen_MD), device=self.device).view(-1, k)
            out_QD[here] = summed(unit_QD[here], seen_MD, place_BK, weight_QK[here], start)
        return out_QD

    def _seen(self, row_B: Tensor, index_BK: Tensor) -> Tensor:
        """The rows index_BK, one after the other, as the queries row_B see them."""
        helped_M, row_M = index_BK.reshape(-1), row_B.repeat_interleave(index_BK.shape[1])
        seen_MD = self.vector_ND[helped_M]
        match_MK = self._near_NK1[helped_M, :-1] == row_M[:, None]
        own_M = match_MK.any(1).nonzero().squeeze(1)
        if len(own_M):
            place_P = match_MK[own_M].int().argmax(1)
            seen_MD[own_M] = self._formed_without(helped_M[own_M], place_P)
        return seen_MD

    def _without_help(self, helped_P: Tensor, place_P: Tensor) -> GridVectors:
        vector_PD = self._formed_without(helped_P, place_P)
        norm_P = vector_PD.double().norm(dim=1).cpu()
        return GridVectors(on_grid(vector_PD, norm_P, None, self.device), "cosine", 1.0)

    def _formed_without(self, helped_P: Tensor, place_P: Tensor) -> Tensor:
        """Rows formed from their k nearest others but the one at `place_P`."""
        k = self._near_NK1.shape[1] - 1
        column_K = torch.arange(k, device=self.device)
        column_PK = column_K + (column_K >= place_P[:, None]).long()
        near_PK = self._near_NK1[helped_P].gather(1, column_PK)
        weight_PK = self._weight_NK1[helped_P].gather(1, column_PK)
        return summed(self._unit_ND[helped_P], self._unit_ND, near_PK, weight_PK)


def _parts(start_B: Tensor, stop_B: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(query within the block, entry) of all entries start_B[b] to stop_B[b], a bounded number at a time."""
    count_B = stop_B - start_B
    query_P = torch.repeat_interleave(torch.arange(len(count_B), device=count_B.device), count_B)
    offset_B = start_B - (count_B.cumsum(0) - count_B)
    entry_P = torch.arange(len(query_P), device=count_B.device) + offset_B[query_P]
    yield from zip(query_P.split(_PAIRS), entry_P.split(_PAIRS), strict=True)
