"""Ranks of positives where being one is no matter of equal labels: asked pair by pair, from every score."""

from collections.abc import Callable

import torch
from torch import Tensor

from kinsight.neighbors import dense
from kinsight.neighbors.ranking import WHOLE, PositiveRanks
from kinsight.neighbors.vectors import Metric, check_metric, grid

Related = Callable[[slice], Tensor]


def related_ranks(
    query_QD: Tensor,
    related: Related,
    gallery_ND: Tensor | None = None,
    *,
    metric: Metric = "cosine",
    exclude: Tensor | None = None,
    device: torch.device | str | None = None,
    memory_bytes: int = 2**27,
) -> PositiveRanks:
    """Ranks of every query's positives in the gallery; without a gallery, leave-one-out in the queries.

    related: for a block of queries, which gallery rows are positives, bool (B, N). exclude: int64 (Q,), a gallery row
    of each query that is no result of its search, with a gallery. Similarities and their ties are
    those of `ranks`, of which this is the plain way: every query's scores are sorted. Raises DataError as `ranks` does.
    """
    check_metric(metric)
    place = torch.device(device) if device is not None else query_QD.device
    query, gallery = grid(query_QD, gallery_ND, metric, place)
    assert gallery_ND is not None or exclude is None, "leave-one-out leaves out the query"
    own_Q = torch.arange(len(query_QD), device=place) if gallery_ND is None else exclude
    own_Q = own_Q.to(place) if own_Q is not None else None
    counts, ranks = [], []
    for here, score_BN in dense.score_blocks(query, gallery, own_Q, memory_bytes // 6):
        order_BN = score_BN.sort(dim=1, descending=True, stable=True)
        positive_BN = related(here).to(place).gather(1, order_BN.indices)
        positive_BN &= order_BN.values > -torch.inf
        counts.append(positive_BN.sum(1))
        ranks.append(positive_BN.nonzero()[:, 1] + 1)
    count_Q = torch.cat(counts) if counts else torch.zeros(0, dtype=torch.int64)
    start_Q = torch.zeros(len(count_Q) + 1, dtype=torch.int64, device=place)
    torch.cumsum(count_Q, 0, out=start_Q[1:])
    depth_Q = torch.full_like(count_Q, WHOLE)
    rank_P = torch.cat(ranks) if ranks else start_Q[:0]
    return PositiveRanks(start_Q, rank_P, count_Q, depth_Q, depth_Q, len(gallery))
