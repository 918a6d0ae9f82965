"""The k nearest in float64, and how far the farthest is: what re-ranking and expansion begin with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import dense
from kinsight.neighbors.gallery import Gallery
from kinsight.neighbors.vectors import Metric, check_metric, grid, row_norms

Advance = Callable[[int], None]  # told how many rows are done


@dataclass(frozen=True)
class Nearest:
    """similarity_QK: float64, exact, best first, ties by lower index. index_QK: int64. lowest_Q: float64, each query's
    least similarity with any row of the gallery; empty unless asked for."""

    similarity_QK: Tensor
    index_QK: Tensor
    lowest_Q: Tensor

    def __len__(self) -> int:
        return len(self.index_QK)


def nearest(
    query_QD: Tensor,
    gallery_ND: Tensor,
    k: int,
    *,
    metric: Metric = "cosine",
    exclude: Tensor | None = None,
    farthest: bool = False,
    device: torch.device | str | None = None,
    advance: Advance | None = None,
    memory_bytes: int = 2**27,
) -> Nearest:
    """`topk` with similarities in float64, the same neighbours in the same order; quicker on the CPU.

    farthest: also fill in `lowest_Q`. Raises DataError as `topk`.
    """
    check_metric(metric)
    available = len(gallery_ND) - int(exclude is not None)
    if not 1 <= k <= available:
        raise DataError(
            "neighbors.k",
            f"k={k}: must be from 1 to {available}, the number of gallery items a query can meet",
            remedy="lower k or add gallery items",
        )
    place = torch.device(device) if device is not None else query_QD.device
    if place.type == "cpu":
        gallery_ND = gallery_ND.float().cpu()
        gallery = Gallery([gallery_ND], row_norms(gallery_ND, "gallery", metric), metric)
        found = gallery.nearest(query_QD.cpu(), k, exclude=exclude, farthest=farthest, advance=advance)
        return Nearest(*found)
    query, other = grid(query_QD, None if gallery_ND is query_QD else gallery_ND, metric, place)
    similarity, index, lowest = [], [], [torch.empty(0, dtype=torch.float64, device=place)]
    exclude_Q = None if exclude is None else exclude.to(place)
    for here, score_BN in dense.score_blocks(query, other, exclude_Q, memory_bytes // 3):
        value_BK, index_BK = dense.topk_rows(score_BN, k)
        similarity.append(query.exact_similarity(value_BK))
        index.append(index_BK)
        if farthest:
            hidden_BN = score_BN.masked_fill_(score_BN == float("-inf"), float("inf"))
            lowest.append(query.exact_similarity(hidden_BN.amin(1)))
        if advance is not None:
            advance(here.stop - here.start)
    return Nearest(torch.cat(similarity), torch.cat(index), torch.cat(lowest))
