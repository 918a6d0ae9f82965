"""Retrieval metrics per query, from the ranks of its positives. float64 (Q,); NaN for a query without positives.

R is the number of a query's positives. A rank counts all other items, best first; ties as in `kinsight.neighbors`.
"""

import torch
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.neighbors import PositiveRanks


def recall_at(ranks: PositiveRanks, k: int) -> Tensor:
    """1 where a positive is among the k nearest, else 0 (Recall@k of metric learning; CMC at k)."""
    _need(ranks, ranks.first_depth_Q, k, "recall")
    first_Q = ranks.first_Q()
    return _nan_without_positives(ranks, ((first_Q > 0) & (first_Q <= k)).double())


def precision_at(ranks: PositiveRanks, k: int) -> Tensor:
    """Share of positives among the k nearest; beyond the gallery's end places count as wrong."""
    _need(ranks, ranks.depth_Q, k, "precision")
    return _nan_without_positives(ranks, _sum(ranks, (ranks.rank_P <= k).double()) / k)


def r_precision(ranks: PositiveRanks) -> Tensor:
    """Share of positives among the R nearest."""
    _need(ranks, ranks.depth_Q, ranks.positives_Q, "r_precision")
    inside_P = ranks.rank_P <= ranks.positives_Q[ranks.query_P()]
    return _nan_without_positives(ranks, _sum(ranks, inside_P.double()) / ranks.positives_Q)


def map_at_r(ranks: PositiveRanks) -> Tensor:
    """Mean over the first R places of precision where a positive stands, else 0. Musgrave et al. 2020, eq. 2."""
    _need(ranks, ranks.depth_Q, ranks.positives_Q, "map@r")
    inside_P = ranks.rank_P <= ranks.positives_Q[ranks.query_P()]
    return _nan_without_positives(ranks, _sum(ranks, _precision_at_hits(ranks) * inside_P) / ranks.positives_Q)


def average_precision(ranks: PositiveRanks) -> Tensor:
    """Mean over all positives of the precision at their rank; their mean over queries is mAP."""
    _need(ranks, ranks.depth_Q, ranks.num_gallery, "map")
    return _nan_without_positives(ranks, _sum(ranks, _precision_at_hits(ranks)) / ranks.positives_Q)


def reciprocal_rank(ranks: PositiveRanks) -> Tensor:
    """1 / rank of the best positive; their mean over queries is MRR."""
    _need(ranks, ranks.first_depth_Q, ranks.num_gallery, "mrr")
    return _nan_without_positives(ranks, 1.0 / ranks.first_Q().double().clamp(min=1))


def cmc_curve(ranks: PositiveRanks, max_k: int) -> Tensor:
    """Cumulative match characteristic, float64 (max_k,): share of queries with a positive among the first 1..max_k."""
    _need(ranks, ranks.first_depth_Q, max_k, "cmc")
    first_Q = ranks.first_Q()
    within_F = first_Q[(first_Q > 0) & (first_Q <= max_k)]
    number_K = torch.bincount(within_F - 1, minlength=max_k)[:max_k]
    return number_K.cumsum(0) / max(1, int((ranks.positives_Q > 0).sum()))


def _precision_at_hits(ranks: PositiveRanks) -> Tensor:
    """j / rank of each query's j-th best positive."""
    place_P = torch.arange(1, len(ranks.rank_P) + 1, device=ranks.rank_P.device) - ranks.start_Q[ranks.query_P()]
    return place_P.double() / ranks.rank_P.double()


def _sum(ranks: PositiveRanks, value_P: Tensor) -> Tensor:
    """Sums of each query's entries, added in rank order."""
    # a running difference would lose digits; segments are added one by one in a fixed order
    total_Q = torch.zeros(len(ranks.positives_Q), dtype=torch.float64, device=value_P.device)
    filled_Q = ranks.start_Q.diff() > 0
    if len(value_P):
        total_Q[filled_Q] = torch.segment_reduce(value_P, "sum", lengths=ranks.start_Q.diff()[filled_Q])
    return total_Q


def _nan_without_positives(ranks: PositiveRanks, value_Q: Tensor) -> Tensor:
    return torch.where(ranks.positives_Q > 0, value_Q, torch.nan)


def _need(ranks: PositiveRanks, depth_Q: Tensor, need: int | Tensor, name: str) -> None:
    """Refuse ranks that were cut off before what the metric looks at."""
    need_Q = torch.as_tensor(need, device=depth_Q.device).clamp(max=ranks.num_gallery)
    if bool(((depth_Q < need_Q) & (ranks.positives_Q > 0)).any()):
        raise SpecError(
            "metrics.depth",
            f"{name} needs ranks up to {int(need_Q.max())}, these end at {int(depth_Q.min())}",
            remedy="compute the ranks with a larger max_rank (or first_max_rank), or None for all",
        )
