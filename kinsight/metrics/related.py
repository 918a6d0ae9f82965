"""Retrieval metrics over any relation between labels."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kinsight.neighbors import Metric, PositiveRanks
from kinsight.neighbors.related import related_ranks
from kinsight.relations import Relation


@dataclass(frozen=True)
class AlikeAt:
    """A gallery item is relevant to a query if their targets are alike at a level of a relation, 0 the finest.

    query_target, gallery_target: what the relation reads; without the latter, leave-one-out. A `PairRelation`:

        retrieval_metrics(embeddings, AlikeAt(SharedLabels(), label_lists))

    All ranks are known, so every metric costs the same; a query is its own class when intervals are drawn.
    """

    relation: Relation
    query_target: Tensor
    gallery_target: Tensor | None = None
    level: int = 0

    @property
    def query_class_Q(self) -> Tensor:
        """See `PairRelation`."""
        return torch.arange(len(self.query_target))

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
        self.relation.check(self.query_target, len(query_QD))
        other = self.query_target if self.gallery_target is None else self.gallery_target
        self.relation.check(other, len(query_QD if gallery_ND is None else gallery_ND))

        def related(here: slice) -> Tensor:
            return self.relation.masks(self.query_target[here], other)[self.level].positive_AB

        found = related_ranks(query_QD, related, gallery_ND, metric=metric, device=device)
        return found if whole else replace(found, depth_Q=found.positives_Q.clamp(min=positives_max_rank))


@dataclass(frozen=True)
class AlikePairs:
    """A gallery item is relevant to a query where it is said so: bool (Q, N). A `PairRelation` for a block of queries.

    exclude_Q: int64, the gallery's row that is the query itself; None: none is. It may not be marked as relevant.
    """

    positive_QN: Tensor
    exclude_Q: Tensor | None = None

    @property
    def query_class_Q(self) -> Tensor:
        """See `PairRelation`."""
        return torch.arange(len(self.positive_QN))

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
        assert gallery_ND is not None, "the pairs are of queries and a gallery"
        found = related_ranks(
            query_QD,
            lambda here: self.positive_QN[here],
            gallery_ND,
            metric=metric,
            exclude=self.exclude_Q,
            device=device,
        )
        return found if whole else replace(found, depth_Q=found.positives_Q.clamp(min=positives_max_rank))
