"""The nearest vector in the lists that queries look into, without an index: block by block, list by list.

For several numbers of lists and several budgets of copies at once: a vector's copy belongs to every budget from the one
on that first pays for it.

Shapes: Q queries, P numbers of lists, S budgets, N vectors, M entries of a block, E pairs (query, list), R dimensions.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_NUMBERS = 1 << 25  # held at once: 128 MB of float32


@dataclass(frozen=True)
class Visits:
    """Who looks into which list: pairs ordered by list. list_E, query_E int64; step_E: number, in the ascending
    numbers of lists, of the first that includes it.
    """

    list_E: Tensor
    query_E: Tensor
    step_E: Tensor

    @classmethod
    def of(cls, order_QL: Tensor, probes: Sequence[int]) -> "Visits":
        """From the first lists of each query, best first; probes ascending."""
        place_P = torch.arange(probes[-1])
        step_P = torch.searchsorted(torch.tensor(probes), place_P, right=True)
        list_M = order_QL[:, : probes[-1]].cpu().flatten()
        by_list_M = list_M.argsort(stable=True)
        return cls(list_M[by_list_M], by_list_M // probes[-1], step_P[by_list_M % probes[-1]])


@dataclass
class Best:
    """What was found so far. score_QPS: product less half the squared length, float32; row_QPS: int64, -1 for none."""

    score_QPS: Tensor
    row_QPS: Tensor

    @classmethod
    def none(cls, queries: int, probes: int, budgets: int) -> "Best":
        """Before anything is looked at."""
        shape = (queries, probes, budgets)
        return cls(torch.full(shape, -torch.inf), torch.full(shape, -1, dtype=torch.int64))

    def take(self, other: "Best") -> None:
        """The better of both; of equal ones the lower row."""
        there = (other.row_QPS >= 0) & (
            (other.score_QPS > self.score_QPS)
            | ((other.score_QPS == self.score_QPS) & ((other.row_QPS < self.row_QPS) | (self.row_QPS < 0)))
        )
        self.score_QPS[there], self.row_QPS[there] = other.score_QPS[there], other.row_QPS[there]

    def summed(self) -> Tensor:
        """The row found with so many lists and such a budget, all smaller ones included: int64 (Q, P, S)."""
        score_QPS, row_QPS = self.score_QPS.clone(), self.row_QPS.clone()
        for dim in (1, 2):
            for at in range(1, score_QPS.shape[dim]):
                before, here = score_QPS.select(dim, at - 1), score_QPS.select(dim, at)
                row_before, row_here = row_QPS.select(dim, at - 1), row_QPS.select(dim, at)
                lower = (row_before >= 0) & ((row_before < row_here) | (row_here < 0))
                keep = (before > here) | ((before == here) & lower)
                here[keep], row_here[keep] = before[keep], row_before[keep]
        return row_QPS


def entries_of(list_N: Tensor, other_NF: Tensor, rank_NF: Tensor, taken_S: Sequence[int]) -> tuple[Tensor, ...]:
    """Entries of these vectors, ordered by list and then by the first budget that pays for them.

    other_NF: lists for copies, -1 none; rank_NF: place in the order in which copies are made; taken_S: copies of each
    budget, ascending. list_M, row_M (number within these vectors), budget_M: int64.
    """
    count, further = other_NF.shape
    first_NF = torch.searchsorted(torch.tensor(list(taken_S)), rank_NF, right=True)
    first_NF = torch.where(other_NF >= 0, first_NF, len(taken_S))
    list_M = torch.cat([list_N.long(), other_NF.flatten().long()])
    row_M = torch.cat([torch.arange(count), torch.arange(count).repeat_interleave(further)])
    budget_M = torch.cat([torch.zeros(count, dtype=torch.int64), first_NF.flatten()])
    kept_M = (budget_M < len(taken_S)).nonzero().squeeze(1)
    order_M = kept_M[(list_M[kept_M] * len(taken_S) + budget_M[kept_M]).argsort(stable=True)]
    return list_M[order_M], row_M[order_M], budget_M[order_M]


def best_in_block(
    query_QR: Tensor, visits: Visits, row_BR: Tensor, first: int, entries: tuple[Tensor, ...], shape: tuple[int, int]
) -> Best:
    """The nearest of each query in a block by squared distance, for (numbers of lists, budgets) of `shape`.

    query_QR, row_BR: on one device. first: number of the block's first row.
    """
    list_M, row_M, budget_M = entries
    best = Best.none(len(query_QR), *shape)
    device = query_QR.device
    half_B = row_BR.square().sum(1) / 2
    present, starts = np.unique(list_M.numpy(), return_index=True)
    stops = [*starts[1:], len(list_M)]
    visits_at = np.searchsorted(visits.list_E.numpy(), np.stack([present, present + 1]))
    for start, stop, low, high in zip(starts, stops, *visits_at, strict=True):
        if low == high:
            continue
        row_E = row_M[start:stop].to(device)
        rows_ER, half_E = row_BR[row_E], half_B[row_E]
        edges = [0, *torch.bincount(budget_M[start:stop], minlength=shape[1]).cumsum(0).tolist()]
        step = max(1, _NUMBERS // int(stop - start))
        for at in range(int(low), int(high), step):
            here = slice(at, min(at + step, int(high)))
            query_V, probe_V = visits.query_E[here], visits.step_E[here]
            score_VE = torch.addmm(-half_E, query_QR[query_V.to(device)], rows_ER.T)
            for budget, (left, right) in enumerate(itertools.pairwise(edges)):
                if left == right:
                    continue
                score_V, place_V = (each.cpu() for each in score_VE[:, left:right].max(1))
                found_V = row_M[int(start) + left + place_V] + first
                _raise(best, query_V, probe_V, budget, score_V, found_V)
    return best


def _raise(best: Best, query_V: Tensor, probe_V: Tensor, budget: int, score_V: Tensor, row_V: Tensor) -> None:
    """A query is among them once: it looks into a list once."""
    old_V, old_row_V = best.score_QPS[query_V, probe_V, budget], best.row_QPS[query_V, probe_V, budget]
    better_V = (score_V > old_V) | ((score_V == old_V) & ((row_V < old_row_V) | (old_row_V < 0)))
    query_V, probe_V = query_V[better_V], probe_V[better_V]
    best.score_QPS[query_V, probe_V, budget] = score_V[better_V]
    best.row_QPS[query_V, probe_V, budget] = row_V[better_V]
