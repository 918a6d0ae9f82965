"""Average precision without sorting what is no positive: only the scores of positives can be thresholds that count.

Shapes: M entries, P of them positive, T distinct scores of positives.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Entries = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Blocks of entries, the same at each call: scores (M,), and whether they are positive, bool (M,)."""


class AtThresholds(NamedTuple):
    """score_T: the distinct scores of positives, lowest first. hits_T, count_T: int64, positives and entries at or
    above each."""

    score_T: Tensor
    hits_T: Tensor
    count_T: Tensor

    @property
    def gained_T(self) -> Tensor:
        """int64: positives at each score itself."""
        return -self.hits_T.diff(append=self.hits_T.new_zeros(1))


def at_thresholds(entries: Entries) -> AtThresholds:
    """Counts at every threshold that gains a positive."""
    score_P = np.sort(np.concatenate([score_M[positive_M].numpy() for score_M, positive_M in entries()]))
    new_P = np.ones(len(score_P), bool)
    new_P[1:] = score_P[1:] != score_P[:-1]
    first_T = np.flatnonzero(new_P)
    score_T = torch.from_numpy(score_P[first_T])
    reached_T1 = torch.zeros(len(first_T) + 1, dtype=torch.int64)  # entries by how many thresholds they reach
    for score_M, _ in entries():
        reached_T1 += torch.bincount(_places(score_M, score_T), minlength=len(first_T) + 1)
    count_T = reached_T1.flip(0).cumsum(0).flip(0)[1:]
    return AtThresholds(score_T, torch.from_numpy(len(score_P) - first_T), count_T)


def average_precision_of(counts: AtThresholds) -> float:
    """Sum over the distinct scores of precision times the recall gained; NaN without a positive."""
    if not len(counts.score_T):
        return float("nan")
    precision_T = counts.hits_T.double() / counts.count_T.double()
    return float((precision_T * counts.gained_T.double()).sum() / float(counts.hits_T[0]))


def precision_slopes(counts: AtThresholds, score_M: Tensor, positive_M: Tensor) -> Tensor:
    """float64 (M,): how fast the average precision grows with the weight of each entry, at equal weights.

    The derivative of sum_i w_i H_i / K_i / sum_i w_i over the positives i, where H_i and K_i are the weights of the
    positives and of the entries that score at least as high. They sum to 0. Needs a positive.
    """
    positives, average = float(counts.hits_T[0]), average_precision_of(counts)
    hits_T, count_T, gained_T = (part.double() for part in (counts.hits_T, counts.count_T, counts.gained_T))
    place_M = _places(score_M, counts.score_T)
    own_T1 = _from_none(hits_T / count_T)
    more_T1 = _from_none((gained_T / count_T).cumsum(0))
    less_T1 = _from_none((gained_T * hits_T / count_T.square()).cumsum(0))
    as_positive_M = positive_M * (own_T1[place_M] - average + more_T1[place_M])
    return (as_positive_M - less_T1[place_M]) / positives


def _places(score_M: Tensor, score_T: Tensor) -> Tensor:
    """int32 (M,): how many thresholds each score reaches."""
    return torch.bucketize(score_M, score_T, right=True, out_int32=True)


def _from_none(value_T: Tensor) -> Tensor:
    """By how many thresholds are reached; 0 for none."""
    return torch.cat([value_T.new_zeros(1), value_T])
