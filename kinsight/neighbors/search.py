"""The k nearest neighbours, exactly, in bounded memory."""

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import dense
from kinsight.neighbors.vectors import Metric, check_metric, exact_pairs, grid


def topk(
    query_QD: Tensor,
    gallery_ND: Tensor,
    k: int,
    *,
    metric: Metric = "cosine",
    exclude: Tensor | None = None,
    device: torch.device | str | None = None,
    memory_bytes: int = 2**27,
) -> tuple[Tensor, Tensor]:
    """The k most similar gallery rows of each query: (similarity_QK float32, index_QK int64), best first.

    query_QD, gallery_ND: floating-point rows. metric: "cosine", "ip" (inner product) or "l2" (negative squared
    distance). exclude: int64 (Q,), one gallery index per query to leave out, -1 for none; leave-one-out passes
    `torch.arange(N)`. Equal similarity: lower gallery index first. Similarities are compared exactly, on coordinates
    rounded to 2^-26 of the longest row, so the result is the same bit for bit on any device and for any memory_bytes,
    which bounds the blocks (a float32 copy of the vectors stands beside them).
    Raises DataError: k above the number of candidates, NaN or infinity (names the row), a zero vector under cosine.
    """
    check_metric(metric)
    available = len(gallery_ND) - (0 if exclude is None or bool((exclude < 0).all()) else 1)
    if not 1 <= k <= available:
        raise DataError(
            "neighbors.k",
            f"k={k}: must be from 1 to {available}, the number of gallery items a query can meet",
            remedy="lower k or add gallery items",
        )
    place = torch.device(device) if device is not None else query_QD.device
    query, gallery = grid(query_QD, None if gallery_ND is query_QD else gallery_ND, metric, place)
    exclude_Q = None if exclude is None else exclude.to(place)
    similarity_QK = torch.empty(len(query), k, device=place)
    index_QK = torch.empty(len(query), k, dtype=torch.int64, device=place)
    for here, score_BN in dense.score_blocks(query, gallery, exclude_Q, memory_bytes // 3):
        value_BK, index_QK[here] = dense.topk_rows(score_BN, k)
        similarity_QK[here] = query.user_similarity(value_BK)
    return similarity_QK, index_QK


def pair_similarity(emb_ND: Tensor, pair_P2: Tensor, *, metric: Metric = "cosine") -> Tensor:
    """Similarities float32 (P,) of pairs of rows of emb_ND; pair_P2: int64 positions. Same values as `topk`'s."""
    vectors, _ = grid(emb_ND, None, metric, emb_ND.device)
    return vectors.user_similarity(exact_pairs(vectors, vectors, pair_P2[:, 0], pair_P2[:, 1]))
