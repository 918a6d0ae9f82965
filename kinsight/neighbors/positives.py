"""The positives of every query with their exact scores, best first: what the scan compares the others with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kinsight.neighbors.sides import Sides
from kinsight.neighbors.vectors import GridVectors, exact_block

_CELLS = 2**21  # float64 numbers gathered or formed at a time


@dataclass(frozen=True)
class Positives:
    """Ragged: query q owns entries start_Q[q] : start_Q[q + 1], by (score_P float64 descending, id_P ascending)."""

    start_Q: Tensor
    score_P: Tensor
    id_P: Tensor

    @cached_property
    def count_Q(self) -> Tensor:
        return self.start_Q.diff()

    @cached_property
    def longest(self) -> int:
        return int(self.count_Q.max()) if len(self.count_Q) else 0

    def query_P(self, queries: slice) -> Tensor:
        """The query of each entry of these queries."""
        number_Q = torch.arange(queries.start, queries.stop, device=self.start_Q.device)
        return torch.repeat_interleave(number_Q, self.count_Q[queries])

    def score_at(self, place_Q: Tensor) -> Tensor:
        """Score of the place-th (from 0) positive of each query; inf for a query without positives."""
        some_Q = self.count_Q > 0
        score_Q = torch.full((len(place_Q),), float("inf"), dtype=torch.float64, device=place_Q.device)
        score_Q[some_Q] = self.score_P[(self.start_Q[:-1] + place_Q)[some_Q]]
        return score_Q

    def place(self, query_E: Tensor, score_E: Tensor, id_E: Tensor | None = None) -> Tensor:
        """How many positives of the query come before an item of this score and id: int64 (E,), by bisection.

        Without id_E: how many have a score strictly greater.
        """
        first_E = self.start_Q.index_select(0, query_E)
        number_E = self.count_Q.index_select(0, query_E)
        last = max(0, len(self.score_P) - 1)
        place_E = torch.zeros_like(first_E)
        step = 1 << max(0, self.longest.bit_length() - 1)
        while step and len(query_E):
            # does the positive that would be passed last come before the item as well?
            next_E = place_E + step
            probe_E = (first_E + next_E).sub_(1).clamp_(max=last)
            probed_E = self.score_P.index_select(0, probe_E)
            before_E = probed_E > score_E
            if id_E is not None:
                before_E |= (probed_E == score_E) & (self.id_P.index_select(0, probe_E) < id_E)
            before_E &= next_E <= number_E
            place_E = place_E.add_(before_E, alpha=step)
            step >>= 1
        return place_E

    def place_within(self, query_E: Tensor, score_E: Tensor, error: float) -> tuple[Tensor, Tensor]:
        """Places by scores that may be off by `error`, and the positions in E where that leaves more than one."""
        place_E = self.place(query_E, score_E + error)
        next_E = self.start_Q.index_select(0, query_E) + place_E
        inside_E = place_E < self.count_Q.index_select(0, query_E)
        next_E.clamp_(max=max(0, len(self.score_P) - 1))
        close_E = inside_E & (self.score_P.index_select(0, next_E) >= score_E - error)
        return place_E, close_E.nonzero().squeeze(1)


def count_positives(query_label_Q: Tensor, gallery_label_N: Tensor, exclude_Q: Tensor | None) -> Tensor:
    """Positives per query, int64 (Q,)."""
    class_C, count_C = gallery_label_N.unique(return_counts=True)
    place_Q = torch.searchsorted(class_C, query_label_Q).clamp(max=max(0, len(class_C) - 1))
    if len(class_C) == 0:
        return torch.zeros_like(query_label_Q)
    count_Q = torch.where(class_C[place_Q] == query_label_Q, count_C[place_Q], 0)
    if exclude_Q is not None:
        own_Q = (exclude_Q >= 0) & (gallery_label_N[exclude_Q.clamp(min=0)] == query_label_Q)
        count_Q = count_Q - own_Q.long()
    return count_Q


def find_positives(sides: Sides) -> Positives:
    """All positives; the caller has checked that they fit in memory."""
    count_Q = count_positives(sides.query_label_Q, sides.gallery_label_N, sides.exclude_Q)
    start_Q = torch.zeros(len(count_Q) + 1, dtype=torch.int64, device=count_Q.device)
    torch.cumsum(count_Q, 0, out=start_Q[1:])
    score_P = torch.empty(int(start_Q[-1]), dtype=torch.float64, device=count_Q.device)
    id_P = torch.empty(int(start_Q[-1]), dtype=torch.int32, device=count_Q.device)
    for query_MA, gallery_MB in _class_batches(sides):
        score_MAB = _scores(sides.query, sides.gallery, query_MA, gallery_MB)
        if sides.exclude_Q is not None:
            score_MAB.masked_fill_(sides.exclude_Q[query_MA][:, :, None] == gallery_MB[:, None, :], float("-inf"))
        order = score_MAB.sort(dim=2, descending=True, stable=True)
        id_MB = sides.gallery_id_N[gallery_MB].int()
        id_MAB = id_MB[:, None, :].expand_as(order.indices).gather(2, order.indices)
        number_MA = count_Q[query_MA]
        # excluded items came last; a slice does for the usual case that every query has as many positives
        most = int(number_MA.max())
        slot_MAJ = start_Q[query_MA][:, :, None] + torch.arange(most, device=start_Q.device)
        value_MAJ, id_MAJ = order.values[:, :, :most], id_MAB[:, :, :most]
        if int(number_MA.min()) < most:
            kept_MAJ = torch.arange(most, device=start_Q.device) < number_MA[:, :, None]
            slot_MAJ, value_MAJ, id_MAJ = slot_MAJ[kept_MAJ], value_MAJ[kept_MAJ], id_MAJ[kept_MAJ]
        slot_K = slot_MAJ.reshape(-1)
        score_P.index_copy_(0, slot_K, value_MAJ.reshape(-1))
        id_P.index_copy_(0, slot_K, id_MAJ.reshape(-1))
    return Positives(start_Q, score_P, id_P)


def _scores(query: GridVectors, gallery: GridVectors, query_MA: Tensor, gallery_MB: Tensor) -> Tensor:
    if query.metric == "l2":
        return torch.stack(
            [exact_block(query.take(a), gallery.take(b)) for a, b in zip(query_MA, gallery_MB, strict=True)]
        )
    return torch.bmm(query.row_ND[query_MA].double(), gallery.row_ND[gallery_MB].double().mT)


def _class_batches(sides: Sides) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (query_MA, gallery_MB): M classes alike in size, their A queries, their B gallery items by ascending id."""
    query_order = sides.query_label_Q.sort(stable=True)
    by_id_N = sides.gallery_id_N.argsort()
    gallery_order = sides.gallery_label_N[by_id_N].sort(stable=True)
    gallery_place_N = by_id_N[gallery_order.indices]
    class_C, a_C = query_order.values.unique_consecutive(return_counts=True)
    a_start_C = a_C.cumsum(0) - a_C
    b_start_C = torch.searchsorted(gallery_order.values, class_C)
    b_C = torch.searchsorted(gallery_order.values, class_C, right=True) - b_start_C
    size_S2, which_C = torch.stack([a_C, b_C], 1).unique(dim=0, return_inverse=True)
    for size, (a, b) in enumerate(size_S2.tolist()):
        if b == 0:
            continue
        member_M = (which_C == size).nonzero().squeeze(1)
        for here_M in member_M.split(max(1, _CELLS // max(a * b, sides.query.row_ND.shape[1] * (a + b)))):
            a_index = a_start_C[here_M][:, None] + torch.arange(a, device=here_M.device)
            b_index = b_start_C[here_M][:, None] + torch.arange(b, device=here_M.device)
            yield query_order.indices[a_index], gallery_place_N[b_index]
