"""What counts as a match. Metrics ask a relation for the ranks of a query's positives, nothing else."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kinsight.neighbors import Metric, PositiveRanks, ranks


class PairRelation(Protocol):
    """Who is relevant to whom, for one set of queries and one gallery."""

    @property
    def query_class_Q(self) -> Tensor:
        """int64 (Q,): the group each query is reported under and resampled with."""
        ...

    def positive_ranks(
        self,
        query_QD: Tensor,
        gallery_ND: Tensor | None,
        *,
        metric: Metric,
        first_max_rank: int,
        whole: bool,
        positives_max_rank: int,
        device: torch.device | str | None,
    ) -> PositiveRanks:
        """Ranks of each query's positives: all of them up to rank R (their number) and up to positives_max_rank, the
        best one up to first_max_rank; with `whole` every one at any rank. gallery_ND None: leave-one-out."""
        ...


@dataclass(frozen=True)
class SameLabel:
    """Items with one label each; equal labels match. gallery_label_N None: leave-one-out."""

    query_label_Q: Tensor
    gallery_label_N: Tensor | None = None

    @property
    def query_class_Q(self) -> Tensor:
        return self.query_label_Q

    def positive_ranks(
        self,
        query_QD: Tensor,
        gallery_ND: Tensor | None,
        *,
        metric: Metric,
        first_max_rank: int,
        whole: bool,
        positives_max_rank: int,
        device: torch.device | str | None,
    ) -> PositiveRanks:
        """See `PairRelation`."""
        depth = None if whole else self._num_positives(positives_max_rank)
        return ranks(
            query_QD,
            self.query_label_Q,
            gallery_ND,
            self.gallery_label_N,
            metric=metric,
            max_rank=depth,
            first_max_rank=first_max_rank,
            device=device,
        )

    def _num_positives(self, at_least: int) -> Tensor:
        """R of every query, at least `at_least`."""
        gallery_label_N = self.query_label_Q if self.gallery_label_N is None else self.gallery_label_N
        class_C, count_C = gallery_label_N.unique(return_counts=True)
        if len(class_C) == 0:
            return torch.full_like(self.query_label_Q, at_least)
        place_Q = torch.searchsorted(class_C, self.query_label_Q).clamp(max=len(class_C) - 1)
        number_Q = torch.where(class_C[place_Q] == self.query_label_Q, count_C[place_Q], 0)
        if self.gallery_label_N is None:
            number_Q = number_Q - 1
        return number_Q.clamp(min=at_least)
