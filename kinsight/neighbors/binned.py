"""All ranks of many positives: every score, formed exactly, falls into one of a thousand bins of its query.

Where a query has dozens of positives, float32 products leave too many scores within rounding of one of them. Here the
products are exact (float64, on the grid). A bin without a positive tells by its number alone how many positives come
before its scores; only scores that share a bin with a positive are compared with it. Which bin a score falls into is a
rising function of the score, computed alike for positives and for all others, so that no rounding can change an order.
"""

import torch
from torch import Tensor

from kinsight.neighbors.counting import settle
from kinsight.neighbors.positives import Positives, find_positives
from kinsight.neighbors.sides import Sides
from kinsight.neighbors.threads import over_cores
from kinsight.neighbors.vectors import GridVectors, exact_block
from kinsight.neighbors.whole import hide_excluded

BINS = 1024  # per query; the first and the last hold what lies beyond its positives
_ROWS = 256
_COLUMNS = 2048
_NARROWEST = 2.0**-30  # range of the positives' scores from which on bins get no finer


def all_ranks(sides: Sides) -> tuple[Tensor, Tensor]:
    """(query position, rank) of every positive, ranks ascending within a query."""
    positives = find_positives(sides)
    queries, device = len(sides.query), positives.start_Q.device
    slot_Q = positives.start_Q[:-1] + torch.arange(queries, device=device)
    counter_S = torch.zeros(len(positives.score_P) + queries, dtype=torch.int32, device=device)
    scale_Q, offset_Q = _scales(positives)
    blocks = (slice(top, min(top + _ROWS, queries)) for top in range(0, queries, _ROWS))

    def look(here: slice) -> tuple[Tensor, Tensor]:
        return _Block(sides, positives, here, scale_Q, offset_Q).count()

    for slot_E, number_E in over_cores(look, blocks, device):
        counter_S.index_add_(0, slot_E, number_E)
    everywhere_Q = torch.full_like(slot_Q, 2**62)
    nowhere_Q = torch.full((queries,), float("-inf"), dtype=torch.float64, device=device)
    none_Q = torch.zeros(queries, dtype=torch.bool, device=device)
    query_P, rank_P, _ = settle(positives, slot_Q, counter_S, nowhere_Q, everywhere_Q, everywhere_Q, none_Q)
    return query_P, rank_P


def _scales(positives: Positives) -> tuple[Tensor, Tensor]:
    """Factor and summand per query that spread its positives' scores over bins 1 to BINS - 1; without any, all fall
    into bin 0."""
    best_Q = positives.score_at(torch.zeros_like(positives.count_Q))
    worst_Q = positives.score_at(positives.count_Q - 1)
    some_Q = positives.count_Q > 0
    scale_Q = torch.where(some_Q, (BINS - 2) / (best_Q - worst_Q).clamp(min=_NARROWEST), 1.0)
    return scale_Q, torch.where(some_Q, 1 - worst_Q * scale_Q, -4.0)


class _Block:
    """One block of queries. Bins are counted through: query r of the block owns r * BINS to (r + 1) * BINS."""

    def __init__(self, sides: Sides, positives: Positives, here: slice, scale_Q: Tensor, offset_Q: Tensor) -> None:
        self.sides, self.positives, self.here = sides, positives, here
        self.rows = here.stop - here.start
        self.scale_R1, self.offset_R1 = scale_Q[here, None], offset_Q[here, None]
        self.first_R1 = torch.arange(self.rows, dtype=torch.int32, device=scale_Q.device)[:, None] * BINS
        own_B = torch.bincount(self._positive_bins(), minlength=self.rows * BINS)
        self.unsure_B = own_B > 0
        own_RB = own_B.view(self.rows, BINS)
        # positives in higher bins come before
        self.place_RB = own_RB.sum(1, keepdim=True) - own_RB.cumsum(1)

    def count(self) -> tuple[Tensor, Tensor]:
        """(counter position, number to add)."""
        number_B = torch.zeros(self.rows * BINS, dtype=torch.int64, device=self.unsure_B.device)
        query = _rows(self.sides.query, self.here)
        exact = []
        for left in range(0, len(self.sides.gallery), _COLUMNS):
            score_RC = exact_block(query, _rows(self.sides.gallery, slice(left, left + _COLUMNS)))
            hide_excluded(score_RC, self.sides, self.here, left)
            bin_P = self._bins(score_RC, self.scale_R1, self.offset_R1, self.first_R1).view(-1)
            number_B += torch.bincount(bin_P, minlength=len(number_B))
            close = self.unsure_B.index_select(0, bin_P).nonzero().squeeze(1)
            exact.append(self._compared(score_RC, close, left))
        sure_B = ~self.unsure_B
        slot_R = self.positives.start_Q[self.here] + torch.arange(self.here.start, self.here.stop, device=sure_B.device)
        slot_B, slot_E = (slot_R[:, None] + self.place_RB).view(-1)[sure_B], torch.cat(exact)
        one_E = torch.ones_like(slot_E, dtype=torch.int32)
        return torch.cat([slot_B, slot_E]), torch.cat([number_B[sure_B].int(), one_E])

    @staticmethod
    def _bins(score: Tensor, scale: Tensor, offset: Tensor, first: Tensor) -> Tensor:
        # one operation after the other: a fused one would round differently for some shapes than for others
        place = (score * scale).add_(offset).clamp_(0, BINS - 1)
        return place.to(torch.int32).add_(first)

    def _positive_bins(self) -> Tensor:
        row_P = self.positives.query_P(self.here) - self.here.start
        start, stop = (int(self.positives.start_Q[end]) for end in (self.here.start, self.here.stop))
        score_P = self.positives.score_P[start:stop]
        own = (part_R1[row_P, 0] for part_R1 in (self.scale_R1, self.offset_R1, self.first_R1))
        return self._bins(score_P, *own)

    def _compared(self, score_RC: Tensor, close: Tensor, left: int) -> Tensor:
        """Counter positions of the negatives among the scores at flat positions `close`."""
        columns = score_RC.shape[1]
        query_P, gallery_P = close // columns + self.here.start, close % columns + left
        sides, positives = self.sides, self.positives
        negative = sides.query_label_Q.index_select(0, query_P) != sides.gallery_label_N.index_select(0, gallery_P)
        keep = negative.nonzero().squeeze(1)
        query_P, gallery_P = query_P[keep], gallery_P[keep]
        score_P = score_RC.view(-1).index_select(0, close[keep])
        place_P = positives.place(query_P, score_P, sides.gallery_id_N.index_select(0, gallery_P))
        return positives.start_Q.index_select(0, query_P) + query_P + place_P


def _rows(vectors: GridVectors, here: slice) -> GridVectors:
    return GridVectors(vectors.row_ND[here], vectors.metric, vectors.unit)
