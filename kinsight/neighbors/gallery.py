"""A gallery that is searched again and again: `topk`'s answers, bit for bit, without preparing the gallery each time.

Float32 products over the rows as they are stored bound every score from both sides; only those that may be among the k
best are formed again exactly. Rows may lie in memory-mapped files: no copy of them is made.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import assert_never

import torch
from torch import Tensor

from kinsight.neighbors import dense
from kinsight.neighbors.coarse import float_error
from kinsight.neighbors.vectors import GridVectors, Metric, exact_pairs, grid_unit, on_grid, row_norms

_LOWEST = float("-inf")
_SCORES = 2**25  # of one block of queries, in float32
_QUERIES = 256
_NUMBERS = 2**25  # coordinates of candidates gathered at once
_CROWDED = 32  # candidates per wanted neighbour above which scoring everything exactly is cheaper
_ORDINARY = 2.0**40  # lengths from its inverse to this multiply without leaving float32


class Gallery:
    """Rows to search in.

    segments: float32 (N_i, D) on the CPU, one after the other the gallery's N rows. norm_N: their lengths, float64, as
    `row_norms` gives them. live_N: bool, rows that take part; default: all. scale_N: float32, what products with rows
    are multiplied by under cosine; the squared lengths under l2.
    """

    def __init__(
        self, segments: Sequence[Tensor], norm_N: Tensor, metric: Metric, *, live_N: Tensor | None = None
    ) -> None:
        self.metric: Metric = metric
        self.segments, self.norm_N = list(segments), norm_N
        starts = [0]
        for segment in self.segments:
            starts.append(starts[-1] + len(segment))
        assert starts[-1] == len(norm_N), (starts, len(norm_N))
        self.starts_S1 = torch.tensor(starts)
        dead_N = torch.zeros(len(norm_N), dtype=torch.bool) if live_N is None else ~live_N
        self.dead_M = dead_N.nonzero().squeeze(1)
        self.num_live = len(norm_N) - len(self.dead_M)
        present_N = norm_N[~dead_N]
        self._longest = float(present_N.max()) if self.num_live else 0.0
        positive_N = present_N[present_N > 0]
        self._shortest = float(positive_N.min()) if len(positive_N) else 1.0
        self.scale_N = torch.ones(0)
        if metric == "cosine":
            self.scale_N = norm_N.clamp(min=1 / _ORDINARY).reciprocal().float()
        elif metric == "l2":
            self.scale_N = norm_N.square().float()

    def __len__(self) -> int:
        return len(self.norm_N)

    @property
    def longest(self) -> float:
        """Length of the longest row that takes part."""
        return self._longest

    def within(self, longest: float) -> "Gallery":
        """The same rows as a part of a larger gallery whose longest row has this length: similarities in float64 are
        then, to the last bit, those of the larger one, and can be compared with those of its other parts.
        """
        found = copy(self)
        found._longest = max(longest, self._longest)
        return found

    def take(self, index_N: Tensor) -> Tensor:
        """Copies of rows, float32 (len(index_N), D); index_N: int64."""
        out_ND = torch.empty(len(index_N), self.segments[0].shape[1] if self.segments else 0)
        segment_N = torch.bucketize(index_N, self.starts_S1[1:], right=True)
        for number in segment_N.unique().tolist():
            here_M = (segment_N == number).nonzero().squeeze(1)
            out_ND[here_M] = self.segments[number][index_N[here_M] - self.starts_S1[number]]
        return out_ND

    def topk(self, query_QD: Tensor, k: int, *, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `neighbors.topk` over the rows that take part, under their own numbers: (similarity_QK, index_QK).

        Where there are fewer than k, the rest is -inf and -1. Raises DataError as `topk` for bad queries.
        """
        similarity_QK, index_QK, _ = self.nearest(query_QD, k, exclude=exclude)
        return similarity_QK.float(), index_QK

    def nearest(
        self,
        query_QD: Tensor,
        k: int,
        *,
        exclude: Tensor | None = None,
        farthest: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `topk` with similarities in float64, and each query's least similarity with any row that takes part:
        (similarity_QK, index_QK, lowest_Q); lowest_Q is empty without `farthest`. advance: told the queries done.
        """
        queries = _Queries(query_QD, self)
        rows = max(1, min(_QUERIES, _SCORES // max(1, len(self))))
        found, lowest = [], [torch.empty(0, dtype=torch.float64)]
        for start in range(0, len(query_QD), rows):
            here = slice(start, min(start + rows, len(query_QD)))
            best, lowest_B = self._block(queries, here, k, exclude, farthest)
            found.append(best)
            lowest.append(lowest_B)
            if advance is not None:
                advance(here.stop - here.start)
        return *_joined(found, k), torch.cat(lowest)

    def rescore(self, query_QD: Tensor, index_QN: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best of given rows for each query, by `topk`'s similarities; index_QN: int64, -1 for none."""
        queries = _Queries(query_QD, self)
        rows = max(1, _NUMBERS // max(1, index_QN.shape[1] * query_QD.shape[1]))
        found = []
        for start in range(0, len(query_QD), rows):
            here = slice(start, min(start + rows, len(query_QD)))
            row_P, place_P = (index_QN[here] >= 0).nonzero(as_tuple=True)
            found.append(self._best(queries, here, row_P, index_QN[here][row_P, place_P], k))
        similarity_QK, index_QK = _joined(found, k)
        return similarity_QK.float(), index_QK

    def _block(
        self, queries: "_Queries", here: slice, k: int, exclude: Tensor | None, farthest: bool
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        exclude_B = None if exclude is None else exclude[here]
        wanted = min(k, self.num_live)
        if not wanted:
            return _nothing(here.stop - here.start, k), torch.empty(0, dtype=torch.float64)
        longest = max(self._longest, queries.longest)
        ordinary = longest < _ORDINARY and min(self._shortest, queries.shortest) > 1 / _ORDINARY
        if not ordinary or 2 * wanted > self.num_live:
            return self._dense(queries, here, k, exclude_B, farthest)
        score_BN = self._coarse(queries.row_QD[here], queries.norm_Q[here])
        lowest_B = self._lowest(queries, here, score_BN, longest) if farthest else None
        score_BN.index_fill_(1, self.dead_M, _LOWEST)
        if exclude_B is not None:
            dense.mask_excluded(score_BN, exclude_B)
        # The true k-th best is at most an error below this, and whoever reaches it at most one below that.
        floor_B1 = score_BN.topk(wanted, dim=1).values[:, -1:] - 2 * self._error(longest)
        row_P, index_P = ((score_BN >= floor_B1) & (score_BN > _LOWEST)).nonzero(as_tuple=True)
        if len(row_P) > _CROWDED * wanted * len(score_BN) or (farthest and lowest_B is None):
            return self._dense(queries, here, k, exclude_B, farthest)
        best = self._best(queries, here, row_P, index_P, k)
        return best, torch.empty(0, dtype=torch.float64) if lowest_B is None else lowest_B

    def _lowest(self, queries: "_Queries", here: slice, score_BN: Tensor, longest: float) -> Tensor | None:
        """The least similarity of each query, exact; None where too many rows may be the one."""
        score_BN.index_fill_(1, self.dead_M, -_LOWEST)
        cap_B1 = score_BN.amin(1, keepdim=True) + 2 * self._error(longest)
        row_P, index_P = (score_BN <= cap_B1).nonzero(as_tuple=True)
        if len(row_P) > _CROWDED * len(score_BN):
            return None
        query = queries.on_grid(here)
        score_P = self._scores(query, queries.unit, row_P, index_P)
        lowest_B = torch.full((len(score_BN),), -_LOWEST, dtype=torch.float64)
        return query.exact_similarity(lowest_B.scatter_reduce_(0, row_P, score_P, "amin"))

    def _coarse(self, query_BD: Tensor, norm_B: Tensor) -> Tensor:
        """Scores in the user's units (l2: without the query's own square), float32 (B, N)."""
        score_BN = torch.empty(len(query_BD), len(self))
        for start, segment in zip(self.starts_S1.tolist(), self.segments, strict=False):
            score_BN[:, start : start + len(segment)] = query_BD @ segment.T
        if self.metric == "cosine":
            score_BN.mul_(self.scale_N).div_(norm_B[:, None].float())
        elif self.metric == "l2":
            score_BN.mul_(2).sub_(self.scale_N)
        return score_BN

    def _error(self, longest: float) -> float:
        """How far a coarse score may be from the exact one: float32 sums, and rounding to the grid."""
        first = self.segments[0]
        product, rounding = 2 * float_error(first), (math.sqrt(first.shape[1]) + 4) * 2.0**-21
        match self.metric:
            case "cosine":
                return product + rounding
            case "ip":
                return longest**2 * (product + rounding)
            case "l2":
                return longest**2 * (2 * product + rounding)
            case _:
                assert_never(self.metric)

    def _best(self, queries: "_Queries", here: slice, row_P: Tensor, index_P: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best of the pairs (query here.start + row_P[p], gallery row index_P[p]), row_P ascending."""
        query = queries.on_grid(here)
        score_P = self._scores(query, queries.unit, row_P, index_P)
        count_B = torch.bincount(row_P, minlength=here.stop - here.start)
        place_P = torch.arange(len(row_P)) - (count_B.cumsum(0) - count_B)[row_P]
        width = max(k, int(count_B.max()) if len(count_B) else 0)
        value_BM = torch.full((len(count_B), width), _LOWEST, dtype=torch.float64)
        index_BM = torch.full((len(count_B), width), -1)
        value_BM[row_P, place_P], index_BM[row_P, place_P] = score_P, index_P
        value_BM, index_BM = dense.order_ties(value_BM, index_BM)
        return query.exact_similarity(value_BM[:, :k]), index_BM[:, :k]

    def _scores(self, query: GridVectors, unit: float, row_P: Tensor, index_P: Tensor) -> Tensor:
        """Grid scores of pairs, a bounded number of rows gathered at a time."""
        score_P = torch.empty(len(row_P), dtype=torch.float64)
        step = max(1, _NUMBERS // max(1, query.row_ND.shape[1]))
        for start in range(0, len(row_P), step):
            part = slice(start, start + step)
            index_U, place_P = index_P[part].unique(return_inverse=True)
            score_P[part] = exact_pairs(query, self._on_grid(index_U, unit), row_P[part], place_P)
        return score_P

    def _on_grid(self, index_U: Tensor, unit: float) -> GridVectors:
        scale_U = self.norm_N[index_U] if self.metric == "cosine" else torch.full((len(index_U),), unit).double()
        return GridVectors(on_grid(self.take(index_U), scale_U, None, torch.device("cpu")), self.metric, unit)

    def _dense(
        self, queries: "_Queries", here: slice, k: int, exclude_B: Tensor | None, farthest: bool
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Every score exact: where nearly all are wanted, ties abound, or lengths are out of the ordinary."""
        live_N = torch.ones(len(self), dtype=torch.bool)
        live_N[self.dead_M] = False
        live_M = live_N.nonzero().squeeze(1)
        gallery, query = self._on_grid(live_M, queries.unit), queries.on_grid(here)
        if exclude_B is not None:
            place_N = torch.full((len(self) + 1,), -1)
            place_N[live_M] = torch.arange(len(live_M))
            exclude_B = place_N[exclude_B]  # -1 finds the last entry, which says none
        wanted = min(k, len(live_M))
        values, places, lowest = [], [], [torch.empty(0, dtype=torch.float64)]
        for _, score_BN in dense.score_blocks(query, gallery, exclude_B, 4 * _SCORES):
            if farthest:
                hidden_BN = score_BN.masked_fill(score_BN == _LOWEST, -_LOWEST)
                lowest.append(query.exact_similarity(hidden_BN.amin(1)))
            value_BK, place_BK = dense.topk_rows(score_BN, wanted)
            values.append(value_BK)
            places.append(torch.where(value_BK == _LOWEST, -1, live_M[place_BK]))
        similarity_BK, index_BK = _nothing(len(query), k)
        similarity_BK[:, :wanted], index_BK[:, :wanted] = query.exact_similarity(torch.cat(values)), torch.cat(places)
        return (similarity_BK, index_BK), torch.cat(lowest)


class _Queries:
    """Checked queries, and the grid they share with a gallery."""

    def __init__(self, row_QD: Tensor, gallery: Gallery) -> None:
        self.norm_Q = row_norms(row_QD, "query", gallery.metric)
        self.metric: Metric = gallery.metric
        self.row_QD = row_QD.float()
        self.longest = float(self.norm_Q.max()) if len(self.norm_Q) else 0.0
        positive_Q = self.norm_Q[self.norm_Q > 0]
        self.shortest = float(positive_Q.min()) if len(positive_Q) else 1.0
        self.unit = grid_unit(self.metric, max(self.longest, gallery._longest) or 1.0)
        self._given_QD = row_QD

    def on_grid(self, here: slice) -> GridVectors:
        norm_B = self.norm_Q[here]
        scale_B = norm_B if self.metric == "cosine" else torch.full_like(norm_B, self.unit)
        return GridVectors(on_grid(self._given_QD[here], scale_B, None, torch.device("cpu")), self.metric, self.unit)


def _nothing(queries: int, k: int) -> tuple[Tensor, Tensor]:
    return torch.full((queries, k), _LOWEST, dtype=torch.float64), torch.full((queries, k), -1)


def _joined(found: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    if not found:
        return _nothing(0, k)
    return torch.cat([similarity for similarity, _ in found]), torch.cat([index for _, index in found])
