"""Exact neighbours for reports: `neighbors.topk`'s answers, with progress, and the faster way on the CPU."""

import torch
from torch import Tensor

from kinsight import progress
from kinsight.neighbors import Metric, topk
from kinsight.neighbors.gallery import Gallery
from kinsight.neighbors.vectors import row_norms

_BLOCK = 4096  # queries between two looks at the clock


def search(
    query_QD: Tensor,
    gallery_ND: Tensor,
    k: int,
    *,
    metric: Metric,
    exclude: Tensor | None,
    device: torch.device,
    task: progress.Task | None = None,
) -> tuple[Tensor, Tensor]:
    """(similarity_QK, index_QK) on the CPU, best first; see `neighbors.topk`."""
    similarity_QK, index_QK = torch.empty(len(query_QD), k), torch.empty(len(query_QD), k, dtype=torch.int64)
    gallery = None
    if device.type == "cpu":
        gallery_ND = gallery_ND.float()
        gallery = Gallery([gallery_ND], row_norms(gallery_ND, "gallery", metric), metric)
    for start in range(0, len(query_QD), _BLOCK):
        here = slice(start, min(start + _BLOCK, len(query_QD)))
        left_out = exclude[here] if exclude is not None else None
        if gallery is not None:
            found = gallery.topk(query_QD[here], k, exclude=left_out)
        else:
            found = topk(query_QD[here], gallery_ND, k, metric=metric, exclude=left_out, device=device)
        similarity_QK[here], index_QK[here] = found[0].cpu(), found[1].cpu()
        if task is not None:
            task.advance(here.stop - here.start)
    return similarity_QK, index_QK
