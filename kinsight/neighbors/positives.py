"""The positives of every query with their exact scores, best first: what the scan compares the others with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.neighbors.vectors import GridVectors, exact_block

_CELLS = 2**22  # float64 scores formed at a time


@dataclass(frozen=True)
class Positives:
    """Ragged: query q owns entries start_Q[q] : start_Q[q + 1], by (score descending, gallery index ascending)."""

    start_Q: Tensor
    score_P: Tensor
    gallery_P: Tensor

    @property
    def count_Q(self) -> Tensor:
        return self.start_Q.diff()

    def query_P(self) -> Tensor:
        count_Q = self.count_Q
        return torch.repeat_interleave(torch.arange(len(count_Q), device=count_Q.device), count_Q)

    def place(self, query_E: Tensor, score_E: Tensor, gallery_E: Tensor | None = None) -> Tensor:
        """How many positives of the query come before (score, gallery index): int64 (E,), by bisection.

        Without gallery_E: how many have a score strictly greater.
        """
        first_E = self.start_Q[query_E]
        low_E, high_E = first_E.clone(), self.start_Q[query_E + 1]
        longest = int(self.count_Q.max()) if len(self.count_Q) else 0
        last = max(0, len(self.score_P) - 1)
        for _ in range(longest.bit_length()):
            middle_E = (low_E + high_E) >> 1
            probe_E = middle_E.clamp(max=last)
            before_E = self.score_P[probe_E] > score_E
            if gallery_E is not None:
                before_E |= (self.score_P[probe_E] == score_E) & (self.gallery_P[probe_E] < gallery_E)
            before_E &= low_E < high_E
            low_E = torch.where(before_E, middle_E + 1, low_E)
            high_E = torch.where(before_E, high_E, middle_E)
        return low_E - first_E


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


def find_positives(
    query: GridVectors, gallery: GridVectors, query_label_Q: Tensor, gallery_label_N: Tensor, exclude_Q: Tensor | None
) -> Positives:
    """All positives; the caller has checked that they fit in memory."""
    count_Q = count_positives(query_label_Q, gallery_label_N, exclude_Q)
    start_Q = torch.zeros(len(count_Q) + 1, dtype=torch.int64, device=count_Q.device)
    torch.cumsum(count_Q, 0, out=start_Q[1:])
    total = int(start_Q[-1])
    score_P = torch.empty(total, dtype=torch.float64, device=count_Q.device)
    gallery_P = torch.empty(total, dtype=torch.int64, device=count_Q.device)
    for query_MA, gallery_MB in _class_batches(query_label_Q, gallery_label_N):
        score_MAB = _scores(query, gallery, query_MA, gallery_MB)
        if exclude_Q is not None:
            score_MAB.masked_fill_(exclude_Q[query_MA][:, :, None] == gallery_MB[:, None, :], float("-inf"))
        order = score_MAB.sort(dim=2, descending=True, stable=True)
        kept_MAB = order.values > float("-inf")
        slot_MAB = start_Q[query_MA][:, :, None] + torch.arange(gallery_MB.shape[1], device=start_Q.device)
        slot_K = slot_MAB[kept_MAB]
        score_P[slot_K] = order.values[kept_MAB]
        gallery_P[slot_K] = gallery_MB[:, None, :].expand_as(order.indices).gather(2, order.indices)[kept_MAB]
    return Positives(start_Q, score_P, gallery_P)


def _scores(query: GridVectors, gallery: GridVectors, query_MA: Tensor, gallery_MB: Tensor) -> Tensor:
    if query.metric == "l2":
        return torch.stack(
            [exact_block(query.take(a), gallery.take(b)) for a, b in zip(query_MA, gallery_MB, strict=True)]
        )
    return torch.bmm(query.row_ND[query_MA].double(), gallery.row_ND[gallery_MB].double().mT)


def _class_batches(query_label_Q: Tensor, gallery_label_N: Tensor):
    """Yield (query_MA, gallery_MB): M classes alike in size, their A queries and B gallery items, ascending."""
    query_order = query_label_Q.sort(stable=True)
    gallery_order = gallery_label_N.sort(stable=True)
    class_C, a_C = query_order.values.unique_consecutive(return_counts=True)
    a_start_C = a_C.cumsum(0) - a_C
    b_start_C = torch.searchsorted(gallery_order.values, class_C)
    b_C = torch.searchsorted(gallery_order.values, class_C, right=True) - b_start_C
    size_S2, which_C = torch.stack([a_C, b_C], 1).unique(dim=0, return_inverse=True)
    for size, (a, b) in enumerate(size_S2.tolist()):
        if b == 0:
            continue
        member_M = (which_C == size).nonzero().squeeze(1)
        rows = max(1, _CELLS // max(a * b, 512 * max(a, b)))
        for start in range(0, len(member_M), rows):
            here_M = member_M[start : start + rows]
            a_index = a_start_C[here_M][:, None] + torch.arange(a, device=here_M.device)
            b_index = b_start_C[here_M][:, None] + torch.arange(b, device=here_M.device)
            yield query_order.indices[a_index], gallery_order.indices[b_index]
