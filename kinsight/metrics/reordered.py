"""Retrieval metrics of a search whose first results have been re-ranked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.metrics.relation import PairRelation
from kinsight.neighbors import Metric, PositiveRanks, reordered


@dataclass(frozen=True)
class Reordered:
    """A relation whose ranks are those after re-ranking. place_QK: `Reranked.place_QK` of the same queries.

    Ranks are exact at every depth: within the first K places those of the new order, behind them the search's.
        result = retrieval_metrics(emb_ND, Reordered(SameLabel(label_N), k_reciprocal(emb_ND).place_QK))
    """

    relation: PairRelation
    place_QK: Tensor

    @property
    def query_class_Q(self) -> Tensor:
        return self.relation.query_class_Q

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
        moved = self.place_QK.shape[1]  # whoever stands there may have come from anywhere among them
        ranks = self.relation.positive_ranks(
            query_QD,
            gallery_ND,
            metric=metric,
            first_max_rank=max(first_max_rank, moved),
            whole=whole,
            positives_max_rank=max(positives_max_rank, moved),
            device=device,
        )
        return reordered(ranks, self.place_QK)
