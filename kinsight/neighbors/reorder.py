"""Ranks of positives after the first places have been put in another order."""

from torch import Tensor

from kinsight.errors import SpecError
from kinsight.neighbors.ranking import PositiveRanks


def reordered(ranks: PositiveRanks, place_QK: Tensor) -> PositiveRanks:
    """Exact ranks once the item at rank r has moved to place_QK[q, r - 1], for the first K ranks; all others stay.

    place_QK: int64, each row a permutation of 1 to K, as `Reranked.place_QK`. Raises SpecError where the ranks given
    don't list every positive up to K.
    """
    k = place_QK.shape[1]
    short_Q = (ranks.depth_Q < min(k, ranks.num_gallery)) & (ranks.positives_Q > 0)
    if bool(short_Q.any()):
        raise SpecError(
            "neighbors.depth",
            f"{k} places were put in another order, the ranks end at {int(ranks.depth_Q[short_Q].min())}",
            remedy="compute the ranks with max_rank at least as large",
        )
    query_P, rank_P = ranks.query_P(), ranks.rank_P.clone()
    inside_P = (rank_P <= k).nonzero().squeeze(1)
    rank_P[inside_P] = place_QK.to(rank_P.device)[query_P[inside_P], rank_P[inside_P] - 1]
    by_rank = rank_P.sort(stable=True)
    order_P = query_P[by_rank.indices].sort(stable=True).indices
    return PositiveRanks(
        ranks.start_Q,
        by_rank.values[order_P],
        ranks.positives_Q,
        ranks.depth_Q,
        ranks.first_depth_Q,
        ranks.num_gallery,
    )
