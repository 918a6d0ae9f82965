"""All ranks of all positives: every score is counted into the interval between two positives, none is sorted.

Float32 products decide; a score within their rounding of a positive is formed again exactly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.neighbors.coarse import float_error
from kinsight.neighbors.counting import settle
from kinsight.neighbors.positives import Positives, find_positives
from kinsight.neighbors.sides import Sides
from kinsight.neighbors.threads import over_cores
from kinsight.neighbors.vectors import exact_pairs

_ROWS = 256
_COLUMNS = 4096
_EDGES = 2**20  # interval edges of one block of queries, at most
_TOLERABLE = 1e-4  # error of a product above which too many would have to be formed again
_FEW = 16  # positives per query, on average, up to which that is few


def suits(sides: Sides, positives_Q: Tensor) -> bool:
    """Whether products here are exact enough, and positives few enough, for this way to be the quick one."""
    exact_enough = sides.query.metric != "l2" and 2 * float_error(sides.gallery.row_ND) < _TOLERABLE
    return exact_enough and int(positives_Q.sum()) <= _FEW * len(positives_Q)


def all_ranks(sides: Sides) -> tuple[Tensor, Tensor]:
    """(query position, rank) of every positive, ranks ascending within a query."""
    positives = find_positives(sides)
    queries = len(sides.query)
    slot_Q = positives.start_Q[:-1] + torch.arange(queries, device=positives.start_Q.device)
    counter_S = torch.zeros(len(positives.score_P) + queries, dtype=torch.int32, device=slot_Q.device)
    rows = max(1, min(_ROWS, _EDGES // max(1, 2 * positives.longest)))
    blocks = (slice(top, min(top + rows, queries)) for top in range(0, queries, rows))

    def look(here: slice) -> tuple[Tensor, Tensor]:
        return _block(sides, positives, here)

    for slot_E, number_E in over_cores(look, blocks, slot_Q.device):
        counter_S.index_add_(0, slot_E, number_E)
    everywhere_Q = torch.full_like(slot_Q, 2**62)
    nowhere_Q = torch.full((queries,), float("-inf"), dtype=torch.float64, device=slot_Q.device)
    none_Q = torch.zeros(queries, dtype=torch.bool, device=slot_Q.device)
    query_P, rank_P, _ = settle(positives, slot_Q, counter_S, nowhere_Q, everywhere_Q, everywhere_Q, none_Q)
    return query_P, rank_P


@dataclass(frozen=True)
class _Intervals:
    """Per query the edges around its positives, ascending, and what lies between edge b - 1 and edge b.

    unsure_RB: within rounding of a positive; place_RB: else, how many positives come before.
    """

    edge_RE: Tensor
    unsure_RB: Tensor
    place_RB: Tensor


def _intervals(positives: Positives, here: slice, error: float) -> _Intervals:
    count_R = positives.count_Q[here]
    most = int(count_R.max())
    inside_RJ = torch.arange(most, device=count_R.device) < count_R[:, None]
    index_RJ = positives.start_Q[here][:, None] + torch.arange(most, device=count_R.device)
    score_RJ = positives.score_P[index_RJ.clamp_(max=max(0, len(positives.score_P) - 1))].masked_fill_(
        ~inside_RJ, float("inf")
    )
    edge = torch.cat([score_RJ - error, score_RJ + error], 1).float().sort(dim=1, stable=True)
    step_RE = torch.where(edge.indices < most, 1, -1)
    open_RB = torch.nn.functional.pad(step_RE.cumsum(1), (1, 0))
    closed_RB = torch.nn.functional.pad((step_RE < 0).cumsum(1), (1, 0))
    return _Intervals(edge.values, open_RB > 0, (count_R[:, None] - closed_RB).clamp_(min=0))


def _block(sides: Sides, positives: Positives, here: slice) -> tuple[Tensor, Tensor]:
    """(counter position, number to add) for one block of queries."""
    device = positives.start_Q.device
    first_R = positives.start_Q[here] + torch.arange(here.start, here.stop, device=device)
    if int(positives.count_Q[here].max()) == 0:
        return first_R[:0], first_R[:0].int()
    # a little more than the bound, for the edges are rounded to float32 themselves
    spans = _intervals(positives, here, 2 * float_error(sides.gallery.row_ND) + 2.0**-22)
    slots = spans.unsure_RB.shape[1]
    offset_R1 = torch.arange(here.stop - here.start, dtype=torch.int32, device=device)[:, None] * slots
    number_B = torch.zeros(spans.unsure_RB.numel(), dtype=torch.int64, device=device)
    unsure_B = spans.unsure_RB.view(-1)
    exact = [first_R[:0]]
    for left in range(0, len(sides.gallery), _COLUMNS):
        score_RC = sides.query.row_ND[here] @ sides.gallery.row_ND[left : left + _COLUMNS].T
        hide_excluded(score_RC, sides, here, left)
        slot_P = torch.searchsorted(spans.edge_RE, score_RC, right=True, out_int32=True).add_(offset_R1).view(-1)
        number_B += torch.bincount(slot_P, minlength=len(number_B))
        close = unsure_B.index_select(0, slot_P).nonzero().squeeze(1)
        exact.append(_exact_slots(sides, positives, here, left, close, score_RC.shape[1]))
    sure_B = ~unsure_B
    slot_B = (first_R[:, None] + spans.place_RB).view(-1)[sure_B]
    slot_E = torch.cat(exact)
    return torch.cat([slot_B, slot_E]), torch.cat([number_B[sure_B].int(), torch.ones_like(slot_E, dtype=torch.int32)])


def hide_excluded(score_RC: Tensor, sides: Sides, here: slice, left: int) -> None:
    """Put what a query leaves out below everything."""
    if sides.exclude_Q is None:
        return
    column_R = sides.exclude_Q[here] - left
    row_E = ((column_R >= 0) & (column_R < score_RC.shape[1]) & (sides.exclude_Q[here] >= 0)).nonzero().squeeze(1)
    score_RC[row_E, column_R[row_E]] = float("-inf")


def _exact_slots(sides: Sides, positives: Positives, here: slice, left: int, close: Tensor, columns: int) -> Tensor:
    """Counter positions of the negatives among the unsure pairs (flat positions in the block)."""
    query_P, gallery_P = close // columns + here.start, close % columns + left
    negative = sides.query_label_Q.index_select(0, query_P) != sides.gallery_label_N.index_select(0, gallery_P)
    keep = negative.nonzero().squeeze(1)
    query_P, gallery_P = query_P[keep], gallery_P[keep]
    exact_P = exact_pairs(sides.query, sides.gallery, query_P, gallery_P)
    return positives.start_Q[query_P] + query_P + positives.place(query_P, exact_P, sides.gallery_id_N[gallery_P])
