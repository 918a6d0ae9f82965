"""Ranks of positives by counting: which negatives lie between which two positives of a query.

1. Each query's positives get exact scores. 2. A sample of the gallery tells about how deep each query must look, hence
a score below which nothing matters. 3. The scan finds the pairs that may lie above it. 4. Their float32 scores place
them among the positives; those within rounding of a positive are scored exactly. 5. A query whose depth was guessed
too shallow is handed back unsettled: the guess decides about speed, never about the result.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.neighbors.coarse import CoarseRows, choose_step, encode, product, thresholds
from kinsight.neighbors.pairs import float32_error, float32_pairs
from kinsight.neighbors.positives import Positives, find_positives
from kinsight.neighbors.scan import TILE_ROWS, Scan
from kinsight.neighbors.vectors import GridVectors, exact_pairs

_SAMPLE = 4096  # gallery items that the depth is guessed from, at most
_SAMPLE_GROUPS = 128
_LEVELS = 32
_SIGMAS = 3.0  # how cautious the guess is


@dataclass(frozen=True)
class Sides:
    """Both sides with what decides who is a positive and who takes no part."""

    query: GridVectors
    gallery: GridVectors
    query_label_Q: Tensor
    gallery_label_N: Tensor
    exclude_Q: Tensor | None


def count_ranks(
    query: GridVectors,
    gallery: GridVectors,
    query_label_Q: Tensor,
    gallery_label_N: Tensor,
    exclude_Q: Tensor | None,
    depth_Q: Tensor,
    first_depth_Q: Tensor,
    *,
    symmetric: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(query, rank) of the listed positives of the settled queries, and the unsettled queries."""
    sides = Sides(query, gallery, query_label_Q, gallery_label_N, exclude_Q)
    positives = find_positives(query, gallery, query_label_Q, gallery_label_N, exclude_Q)
    step = choose_step(gallery.row_ND)
    # any fixed order that mixes the classes will do: the sample must be one, and no tile may be crowded
    order_N = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(0)).to(gallery.row_ND.device)
    gallery_code = encode(gallery.row_ND, step, order_N)
    query_code = gallery_code if symmetric else encode(query.row_ND, step)
    query_order_Q = order_N if symmetric else torch.arange(len(query), device=order_N.device)
    floor_Q = _floors(sides, positives, query_code, query_order_Q, gallery_code, order_N, depth_Q, first_depth_Q)
    coarse_Q = thresholds(query_code, gallery_code, floor_Q[query_order_Q])
    scan = Scan(query_code, gallery_code, coarse_Q, symmetric=symmetric)
    slot_Q = positives.start_Q[:-1] + torch.arange(len(query), device=order_N.device)
    counter_S = torch.zeros(len(positives.score_P) + len(query), dtype=torch.int32, device=order_N.device)
    for hits in scan.run():
        row_P, column_P = query_order_Q[hits.query_P], order_N[hits.gallery_P]
        row_P, place_P = _place(sides, positives, floor_Q, row_P, column_P)
        counter_S.index_add_(0, slot_Q[row_P] + place_P, torch.ones_like(row_P, dtype=torch.int32))
    unsettled_Q = torch.zeros(len(query), dtype=torch.bool, device=order_N.device)
    unsettled_Q[query_order_Q] = scan.given_up_Q[: len(query)]
    return _settle(positives, slot_Q, counter_S, floor_Q, depth_Q, first_depth_Q, unsettled_Q)


def _place(
    sides: Sides, positives: Positives, floor_Q: Tensor, row_P: Tensor, column_P: Tensor
) -> tuple[Tensor, Tensor]:
    """Among the candidate pairs the negatives that matter: (query, how many positives come before)."""
    keep_P = sides.query_label_Q[row_P] != sides.gallery_label_N[column_P]
    if sides.exclude_Q is not None:
        keep_P &= sides.exclude_Q[row_P] != column_P
    row_P, column_P = row_P[keep_P], column_P[keep_P]
    score_P = float32_pairs(sides.query, sides.gallery, row_P, column_P).double()
    error = float32_error(sides.query.row_ND.shape[1])
    keep_P = score_P + error >= floor_Q[row_P]
    row_P, column_P, score_P = row_P[keep_P], column_P[keep_P], score_P[keep_P]
    place_P = positives.place(row_P, score_P + error)
    next_P = positives.start_Q[row_P] + place_P
    inside_P = next_P < positives.start_Q[row_P + 1]
    close_P = inside_P & (positives.score_P[next_P.clamp(max=len(positives.score_P) - 1)] >= score_P - error)
    close = close_P.nonzero().squeeze(1)
    if len(close):
        row_E, column_E = row_P[close], column_P[close]
        exact_E = exact_pairs(sides.query, sides.gallery, row_E, column_E)
        place_P[close] = positives.place(row_E, exact_E, column_E)
    return row_P, place_P


def _settle(
    positives: Positives,
    slot_Q: Tensor,
    counter_S: Tensor,
    floor_Q: Tensor,
    depth_Q: Tensor,
    first_depth_Q: Tensor,
    unsettled_Q: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    count_Q = positives.count_Q
    query_P = positives.query_P()
    place_P = torch.arange(len(query_P), device=query_P.device) - positives.start_Q[query_P]
    above_S = counter_S.cumsum(0)
    before_Q = above_S[slot_Q] - counter_S[slot_Q]
    # exact where the positive stands at or above the floor, else a lower bound
    rank_P = 1 + place_P + above_S[slot_Q[query_P] + place_P] - before_Q[query_P]
    wanted_P = (rank_P <= depth_Q[query_P]) | ((place_P == 0) & (rank_P <= first_depth_Q[query_P]))
    unsettled_Q[query_P[wanted_P & (positives.score_P < floor_Q[query_P])]] = True
    unsettled_Q &= count_Q > 0
    keep_P = wanted_P & ~unsettled_Q[query_P]
    return query_P[keep_P], rank_P[keep_P], unsettled_Q.nonzero().squeeze(1)


def _floors(
    sides: Sides,
    positives: Positives,
    query_code: CoarseRows,
    query_order_Q: Tensor,
    gallery_code: CoarseRows,
    order_N: Tensor,
    depth_Q: Tensor,
    first_depth_Q: Tensor,
) -> Tensor:
    """Per query (in its own order) the score above which everything has to be counted, float64; inf: nothing."""
    size = _sample_size(len(order_N), int(torch.maximum(depth_Q, first_depth_Q).max()))
    sample_SD = gallery_code.code_ND[:size]
    own = _own_pairs(sides.query_label_Q[query_order_Q], sides.gallery_label_N[order_N[:size]])
    count_L = torch.arange(1, _LEVELS + 1, dtype=torch.float64, device=order_N.device)
    ratio = len(order_N) / size
    # how many of the whole gallery lie above the l-th best of the sample, cautiously
    surely_L = torch.maximum(count_L, ratio * (count_L - _SIGMAS * count_L.sqrt()))
    floor_Q = torch.full((len(sides.query),), float("inf"), dtype=torch.float64, device=order_N.device)
    lowest_Q = _at(positives, positives.count_Q - 1)
    best_Q = _at(positives, torch.zeros_like(positives.count_Q))
    for top in range(0, len(query_order_Q), TILE_ROWS):
        row_R = query_order_Q[top : top + TILE_ROWS]
        level_RL = _levels(query_code.code_ND[top : top + TILE_ROWS], sample_SD, own, top)
        level_RL = level_RL.double() * (query_code.step * gallery_code.step)
        flat = row_R[:, None].expand_as(level_RL).reshape(-1)
        above_RL = positives.place(flat, level_RL.reshape(-1)).view_as(level_RL)
        enough_all = _first_level(level_RL, surely_L + above_RL >= depth_Q[row_R, None])
        enough_first = _first_level(level_RL, (surely_L >= first_depth_Q[row_R, None]).expand_as(level_RL))
        floor_R = torch.maximum(lowest_Q[row_R], enough_all)
        floor_R[depth_Q[row_R] <= 0] = float("inf")
        floor_Q[row_R] = torch.minimum(floor_R, torch.maximum(best_Q[row_R], enough_first))
    floor_Q[positives.count_Q == 0] = float("inf")
    return floor_Q


def _sample_size(num_gallery: int, depth: int) -> int:
    """So many that the depth wanted falls among the middle levels: neither all of them nor the first few."""
    wanted = 7 * num_gallery // max(1, depth)
    return max(_SAMPLE_GROUPS, min(wanted, _SAMPLE, num_gallery) // _SAMPLE_GROUPS * _SAMPLE_GROUPS)


def _levels(query_RD: Tensor, sample_SD: Tensor, own: tuple[Tensor, Tensor], top: int) -> Tensor:
    """The best coarse scores of each query with negatives of the sample (one per group), descending (R, L)."""
    integer = query_RD.dtype == torch.int8
    dtype = torch.int32 if integer else torch.float32
    rows = len(query_RD)
    if rows < 32:  # integer products refuse fewer than 17 rows
        query_RD = torch.cat([query_RD, query_RD.new_zeros(32 - rows, query_RD.shape[1])])
    score_RS = torch.empty(len(query_RD), len(sample_SD), dtype=dtype, device=query_RD.device)
    product(query_RD, sample_SD, score_RS)
    row_P, column_P = own
    bounds = torch.searchsorted(row_P, torch.tensor([top, top + rows], device=row_P.device)).tolist()
    here = slice(*bounds)
    score_RS[row_P[here] - top, column_P[here]] = -(2**31) + 1 if integer else float("-inf")
    best_RG = score_RS[:rows].view(rows, _SAMPLE_GROUPS, -1).amax(2)
    levels = min(_LEVELS, best_RG.shape[1])
    return best_RG.topk(levels, dim=1).values


def _own_pairs(query_label_Q: Tensor, sample_label_S: Tensor) -> tuple[Tensor, Tensor]:
    """(query position, sample position) of pairs with equal labels, sorted by query."""
    order = query_label_Q.sort(stable=True)
    low_S = torch.searchsorted(order.values, sample_label_S)
    count_S = torch.searchsorted(order.values, sample_label_S, right=True) - low_S
    column_P = torch.repeat_interleave(torch.arange(len(low_S), device=low_S.device), count_S)
    within_P = torch.arange(len(column_P), device=low_S.device) - (count_S.cumsum(0) - count_S)[column_P]
    row_P, by_row = order.indices[low_S[column_P] + within_P].sort(stable=True)
    return row_P, column_P[by_row]


def _first_level(level_RL: Tensor, enough_RL: Tensor) -> Tensor:
    """The first (highest) level that is enough; -inf where none is."""
    place_R = enough_RL.int().argmax(1)
    found_R = level_RL.gather(1, place_R[:, None]).squeeze(1)
    return torch.where(enough_RL.any(1), found_R, float("-inf"))


def _at(positives: Positives, place_Q: Tensor) -> Tensor:
    """Score of the place-th positive of each query; inf for a query without positives."""
    some_Q = positives.count_Q > 0
    score_Q = torch.full((len(place_Q),), float("inf"), dtype=torch.float64, device=place_Q.device)
    score_Q[some_Q] = positives.score_P[(positives.start_Q[:-1] + place_Q)[some_Q]]
    return score_Q
