"""Candidates put into order by the full vectors, in float32 where they lie: no copy of a vector is made.

Shapes: Q queries, D dimensions, R candidates of a query, K wanted, S segments of rows.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kinsight.indexing.untyped import faiss
from kinsight.neighbors import Metric
from kinsight.neighbors.greatest import greatest

_LOWEST = float("-inf")


def refine(
    query_QD: np.ndarray,
    segments: Sequence[Tensor],
    row_QR: np.ndarray,
    k: int,
    metric: Metric,
    scale_N: Tensor,
    *,
    repeated: bool,
) -> tuple[Tensor, Tensor]:
    """The k most similar of given rows: (similarity_QK float32, row_QK int64), best first, equal ones by lower row.

    query_QD: float32, of unit length under cosine. segments: float32 (n, D), one after the other the rows. row_QR:
    int64, -1 for none. scale_N: under cosine, the inverse of the rows' lengths. repeated: whether a row may occur
    several times in a query's candidates; it is taken once.
    """
    faiss.omp_set_num_threads(torch.get_num_threads())
    row_QR = _once(row_QR) if repeated else np.ascontiguousarray(row_QR)
    similarity_QR = torch.from_numpy(_similarities(query_QD, segments, row_QR, metric))
    row = torch.from_numpy(row_QR)
    if metric == "cosine":
        similarity_QR *= scale_N[row.clamp_min(0)]
    similarity_QR.masked_fill_(row < 0, _LOWEST)
    wanted = min(k, row.shape[1])
    similarity_QK, place_QK = greatest(similarity_QR, wanted)
    row_QK = row.gather(1, place_QK)
    similarity_QK, row_QK = lower_rows_first(similarity_QK, row_QK)
    row_QK = row_QK.masked_fill(similarity_QK == _LOWEST, -1)
    if wanted == k:
        return similarity_QK, row_QK
    room = (0, k - wanted)
    return torch.nn.functional.pad(similarity_QK, room, value=_LOWEST), torch.nn.functional.pad(row_QK, room, value=-1)


def lower_rows_first(similarity_QK: Tensor, row_QK: Tensor) -> tuple[Tensor, Tensor]:
    """Results that are in order by similarity, equal ones by row."""
    if not bool(((similarity_QK[:, 1:] == similarity_QK[:, :-1]) & (row_QK[:, 1:] < row_QK[:, :-1])).any()):
        return similarity_QK, row_QK
    row_QK, order_QK = row_QK.sort(dim=1)  # the lower row first, then stably by similarity
    similarity_QK, again_QK = similarity_QK.gather(1, order_QK).sort(dim=1, descending=True, stable=True)
    return similarity_QK, row_QK.gather(1, again_QK)


def _once(row_QR: np.ndarray) -> np.ndarray:
    row_QR = np.sort(row_QR, axis=1)
    row_QR[:, 1:][row_QR[:, 1:] == row_QR[:, :-1]] = -1
    return np.ascontiguousarray(row_QR)


def _similarities(query_QD: np.ndarray, segments: Sequence[Tensor], row_QR: np.ndarray, metric: Metric) -> np.ndarray:
    """Inner products, or negated squared distances, float32 (Q, R); -inf where there is no row."""
    measure = faiss.fvec_L2sqr_by_idx if metric == "l2" else faiss.fvec_inner_products_by_idx
    out_QR = np.full(row_QR.shape, _LOWEST, np.float32)
    start = 0
    for segment in segments:
        vector_ND = segment.numpy()
        place_QR = row_QR - start if start else row_QR
        if len(segments) > 1:
            place_QR = np.where((place_QR < 0) | (place_QR >= len(vector_ND)), -1, place_QR)
        # named, not temporary: faiss takes pointers
        place_QR, part_QR = np.ascontiguousarray(place_QR), np.empty(row_QR.shape, np.float32)
        swig = faiss.swig_ptr
        measure(swig(part_QR), swig(query_QD), swig(vector_ND), swig(place_QR), query_QD.shape[1], *row_QR.shape)
        if metric == "l2":
            np.negative(part_QR, out=part_QR)
        out_QR = part_QR if len(segments) == 1 else np.where(place_QR >= 0, part_QR, out_QR)
        start += len(vector_ND)
    return out_QR
