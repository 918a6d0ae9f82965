"""k-reciprocal re-ranking (Zhong, Zheng, Cao, Li 2017) in bounded memory: sparse rows, blocks, candidates only.

All items, queries and gallery together, form one set; d is the squared Euclidean distance (under cosine, of rows at
unit length), each item's divided by its largest, as in the authors' published program. With each item at the head of
its own list:

- N(p, k): p and its k nearest others. R(p, k): those of N(p, k) that have p in their N(., k).
- R*(p): R(p, k1), and R(q, round(k1 / 2)) of each q in R(p, k1) of which at least two thirds lie in R(p, k1) (eq. 5).
- V(p, g): exp(-d(p, g)) for g in R*(p), else 0 (eq. 7). Then the mean of V over p and its k2 - 1 nearest (eq. 11).
- d_J(p, g): 1 - sum_j min(V(p, j), V(g, j)) / sum_j max(V(p, j), V(g, j)) (eq. 10).
- d*(p, g): (1 - weight) d_J(p, g) + weight d(p, g) (eq. 12).

Each query's first `depth` items are ordered by d*, which is the paper's number for each of them: sets and V are formed
over everything. Behind them the search's order holds. Equal d*: the search's order.

In leave-one-out the queries are the gallery: each item is in the set once, and never among its own candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.neighbors.nearest_rows import Advance, Nearest, nearest
from kinsight.neighbors.sparse_rows import SparseRows, joined_rows
from kinsight.neighbors.threads import over_cores
from kinsight.neighbors.vectors import GridVectors, Metric, check_metric, exact_pairs, grid

_CELLS = 2**21  # numbers compared, or of dense rows, in one block


@dataclass(frozen=True)
class Reranked:
    """index_QK: int64, gallery rows in their new order. distance_QK: float64, their d*, ascending.

    place_QK: int64, the new place, from 1 on, of what the search had found at each place.
    """

    index_QK: Tensor
    distance_QK: Tensor
    place_QK: Tensor


def k_reciprocal(
    query_QD: Tensor,
    gallery_ND: Tensor | None = None,
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    depth: int = 100,
    metric: Metric = "cosine",
    candidates: Nearest | None = None,
    device: torch.device | str | None = None,
    advance: Advance | None = None,
) -> Reranked:
    """Re-rank the `depth` nearest gallery rows (or all there are) of each query; see the module for the formulas.

    gallery_ND None: leave-one-out among the queries. weight: the paper's lambda. candidates: what a search has found
    already, best first, in place of the nearest `depth`: gallery rows, with similarities that give d in the last
    formula. advance: told rows done, three times as many as there are items in all, and queries.
    Memory: some 2 KB an item beside two copies of the vectors, and blocks of some ten MB per thread.
    Raises SpecError: k1 not below the number of items, k2 above k1, an inner product (no distance); DataError as
    `topk`.
    """
    check_metric(metric)
    place = torch.device(device) if device is not None else query_QD.device
    own = gallery_ND is None
    row_UD = query_QD if gallery_ND is None else torch.cat([query_QD, gallery_ND.to(query_QD.device)])
    _check(k1, k2, weight, depth, metric, len(row_UD))
    in_gallery = len(row_UD) - 1 if own else len(row_UD) - len(query_QD)
    depth = min(depth, in_gallery)
    own_U = torch.arange(len(row_UD), device=place)
    reuse = own and candidates is None
    wide = max(k1, depth) if reuse else k1
    found = nearest(row_UD, row_UD, wide, metric=metric, exclude=own_U, farthest=True, device=place, advance=advance)
    if reuse:
        candidates = Nearest(found.similarity_QK[:, :depth], found.index_QK[:, :depth], found.lowest_Q)
    elif candidates is None:
        assert gallery_ND is not None
        candidates = nearest(query_QD, gallery_ND, depth, metric=metric, device=place)
    grid_U, _ = grid(row_UD, None, metric, place)
    largest_U = _distance(found.lowest_Q, metric)
    near_UK = torch.cat([own_U[:, None], found.index_QK[:, :k1]], 1).int()
    sets = _Sets(near_UK, round(k1 / 2), grid_U, torch.where(largest_U > 0, largest_U, 1.0))
    rows = sets.rows(advance)
    if k2 > 1:
        rows = _averaged(rows, near_UK[:, :k2], advance)
    offset = 0 if own else len(query_QD)
    jaccard_QK = _jaccard(rows, candidates.index_QK + offset, advance)
    direct_QK = _distance(candidates.similarity_QK, metric) / sets.largest_U[: len(query_QD), None]
    order = ((1 - weight) * jaccard_QK + weight * direct_QK).sort(dim=1, stable=True)
    new_K = torch.arange(1, order.indices.shape[1] + 1, device=place)
    place_QK = torch.empty_like(order.indices).scatter_(1, order.indices, new_K.expand_as(order.indices))
    return Reranked(candidates.index_QK.gather(1, order.indices), order.values, place_QK)


def _check(k1: int, k2: int, weight: float, depth: int, metric: Metric, number: int) -> None:
    wrong = None
    if not 1 <= k1 < number:
        wrong = "k1", k1, f"from 1 to {number - 1}, the number of other items"
    elif not 1 <= k2 <= k1:
        wrong = "k2", k2, f"from 1 to k1={k1}"
    elif not 0 <= weight <= 1:
        wrong = "weight", weight, "from 0 to 1"
    elif depth < 1:
        wrong = "depth", depth, "1 or more"
    elif metric == "ip":
        wrong = "metric", "'ip'", "'cosine' or 'l2': an inner product is no distance"
    if wrong is not None:
        name, value, expected = wrong
        raise SpecError(f"rerank.{name}", f"{name}={value}: must be {expected}", field=name)


def _distance(similarity: Tensor, metric: Metric) -> Tensor:
    """Squared Euclidean distances, float64."""
    return (2 - 2 * similarity if metric == "cosine" else -similarity).clamp(min=0)


class _Sets:
    """The sets R and R* of all items. near_UK: int32, each item and its k1 nearest others; half: the smaller k."""

    def __init__(self, near_UK: Tensor, half: int, grid_U: GridVectors, largest_U: Tensor) -> None:
        self.near_UK, self.grid_U, self.largest_U = near_UK, grid_U, largest_U
        self.near_UH = near_UK[:, : half + 1].contiguous()
        self.device = near_UK.device

    def rows(self, advance: Advance | None) -> SparseRows:
        """V before the averaging, eq. 7."""
        number, width = self.near_UK.shape
        self.mutual_UK = self._mutual(self.near_UK)
        self.mutual_UH = self._mutual(self.near_UH)
        size = max(1, _CELLS // (width * width * self.near_UH.shape[1]))
        return joined_rows(_counted(over_cores(self._block, _blocks(number, size), self.device), advance), number)

    def _mutual(self, near_UK: Tensor) -> Tensor:
        """bool (U, K): whether the item at each place of a list has the list's owner in its own."""
        number, width = near_UK.shape

        def look(here: slice) -> Tensor:
            owner_B11 = torch.arange(here.start, here.stop, dtype=torch.int32, device=self.device)[:, None, None]
            return (near_UK[near_UK[here].long()] == owner_B11).any(2)

        blocks = _blocks(number, max(1, _CELLS // width**2))
        return torch.cat(list(over_cores(look, blocks, self.device)))

    def _block(self, here: slice) -> tuple[slice, Tensor, Tensor, Tensor]:
        """(items, how many numbers each has, their columns ascending, the numbers)."""
        number = len(self.near_UK)
        near_BK, mutual_BK = self.near_UK[here].long(), self.mutual_UK[here]
        taken_BKH = self._taken(near_BK, mutual_BK)
        owner_B = torch.arange(here.stop - here.start, device=self.device)
        key_BK = owner_B[:, None] * number + near_BK
        key_BKH = owner_B[:, None, None] * number + self.near_UH[near_BK]
        key_E = torch.cat([key_BK[mutual_BK], key_BKH[taken_BKH]]).unique()
        row_E, column_E = key_E // number, key_E % number
        score_E = exact_pairs(self.grid_U, self.grid_U, row_E + here.start, column_E)
        distance_E = _distance(self.grid_U.exact_similarity(score_E), self.grid_U.metric)
        value_E = (-distance_E / self.largest_U[row_E + here.start]).exp()
        return here, torch.bincount(row_E, minlength=len(owner_B)), column_E.int(), value_E

    def _taken(self, near_BK: Tensor, mutual_BK: Tensor) -> Tensor:
        """bool (B, K, H): what the smaller sets of an item's mutual neighbours add, eq. 5."""
        own_BK = near_BK.int().masked_fill(~mutual_BK, -1)
        member_BKH = self.mutual_UH[near_BK] & mutual_BK[:, :, None]
        candidate_BKH = self.near_UH[near_BK]
        shared_BKH = (candidate_BKH[..., None] == own_BK[:, None, None, :]).any(3) & member_BKH
        enough_BK = 3 * shared_BKH.sum(2) >= 2 * member_BKH.sum(2)
        return member_BKH & enough_BK[:, :, None]


def _averaged(rows: SparseRows, near_UK: Tensor, advance: Advance | None) -> SparseRows:
    """Each row the mean of those of `near_UK`, eq. 11."""
    number, k = near_UK.shape

    def average(here: slice) -> tuple[slice, Tensor, Tensor, Tensor]:
        member_E, column_E, value_E = rows.gather(near_UK[here].reshape(-1).long())
        key = ((member_E // k) * number + column_E).sort(stable=True)
        key_F, count_F = key.values.unique_consecutive(return_counts=True)
        # added one after the other, in the order of the neighbours
        value_F = torch.segment_reduce(value_E[key.indices], "sum", lengths=count_F) / k
        count_B = torch.bincount(key_F // number, minlength=here.stop - here.start)
        return here, count_B, (key_F % number).int(), value_F

    size = max(1, _CELLS // (8 * k * rows.longest))
    return joined_rows(_counted(over_cores(average, _blocks(number, size), rows.device), advance), number)


def _jaccard(rows: SparseRows, candidate_QK: Tensor, advance: Advance | None) -> Tensor:
    """Jaccard distances, float64 (Q, K), of the first Q items and their candidates, eq. 10."""
    sum_U = rows.sums()
    queries, k = candidate_QK.shape

    def compare(here: slice) -> tuple[slice, Tensor]:
        candidate_BK = candidate_QK[here]
        dense_BU = rows.dense(here)
        member_E, column_E, value_E = rows.gather(candidate_BK.reshape(-1))
        own_E = dense_BU.view(-1)[(member_E // k) * len(rows) + column_E]
        low_BK = torch.segment_reduce(
            torch.minimum(own_E, value_E), "sum", lengths=rows.counts(candidate_BK.reshape(-1))
        ).view_as(candidate_BK)
        high_BK = sum_U[here, None] + sum_U[candidate_BK] - low_BK
        return here, 1 - low_BK / high_BK

    size = max(1, min(2 * _CELLS // len(rows), _CELLS // max(1, k * rows.mean)))
    out_QK = torch.empty(queries, k, dtype=torch.float64, device=rows.device)
    for here, value_BK in over_cores(compare, _blocks(queries, size), rows.device):
        out_QK[here] = value_BK
        if advance is not None:
            advance(here.stop - here.start)
    return out_QK


def _blocks(number: int, size: int) -> Iterator[slice]:
    return (slice(top, min(top + size, number)) for top in range(0, number, size))


def _counted(
    found: Iterator[tuple[slice, Tensor, Tensor, Tensor]], advance: Advance | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for here, *block in found:
        if advance is not None:
            advance(here.stop - here.start)
        yield block[0], block[1], block[2]
