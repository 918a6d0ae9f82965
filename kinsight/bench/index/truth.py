"""Exact neighbours of queries, and the recall of what a search found, rows as near as the 10th counted as right.

Shapes: N rows, D dimensions, Q queries, K found, M nearest rows and those as near as the 10th.
"""

from collections.abc import Callable
from typing import Any

import faiss as faiss_module
import numpy as np

faiss: Any = faiss_module
K = 10
_SPARE = 22  # rows beyond the 10th that may be as near
_BLOCK = 500


def nearest(
    base_ND: np.ndarray, query_QD: np.ndarray, own_Q: np.ndarray, advance: Callable[[float], object]
) -> np.ndarray:
    """int32 (Q, M): rows no farther than the 10th nearest, nearest first, -1 for none; a query's own row left out.

    Distances of what float32 finds are recomputed in float64. advance: told of queries done.
    """
    wanted = min(len(base_ND), K + _SPARE)
    out_QM = np.empty((len(query_QD), wanted), np.int32)
    for start in range(0, len(query_QD), _BLOCK):
        query_BD, own_B = query_QD[start : start + _BLOCK], own_Q[start : start + _BLOCK]
        row_BM = faiss.knn(np.ascontiguousarray(query_BD, np.float32), base_ND, wanted)[1]
        exact_BM = np.square(base_ND[row_BM].astype(np.float64) - query_BD[:, None].astype(np.float64)).sum(2)
        exact_BM[row_BM == own_B[:, None]] = np.inf
        order_BM = np.lexsort((row_BM, exact_BM), axis=1)
        row_BM, exact_BM = (np.take_along_axis(each, order_BM, 1) for each in (row_BM, exact_BM))
        last_B = exact_BM[:, min(K, wanted) - 1]
        out_QM[start : start + _BLOCK] = np.where(
            (exact_BM <= last_B[:, None] * (1 + 1e-9)) & np.isfinite(exact_BM), row_BM, -1
        )
        advance(len(query_BD))
    return out_QM[:, : int((out_QM >= 0).sum(1).max())]


def recall_at_10(found_QK: np.ndarray, near_QM: np.ndarray, own_Q: np.ndarray | None = None) -> float:
    """Mean share of 10 right rows among the first 10 found, a query's own row left out and none counted twice.

    found_QK: rows, -1 for none; with `own_Q`, K must be 11 at least.
    """
    found_QK = np.asarray(found_QK, np.int64)
    if own_Q is not None:
        found_QK = np.where(found_QK == own_Q[:, None], -1, found_QK)
        order_QK = np.argsort(found_QK < 0, axis=1, kind="stable")
        found_QK = np.take_along_axis(found_QK, order_QK, 1)
    hit_QM = (near_QM[:, :, None] == found_QK[:, None, :K]).any(2) & (near_QM >= 0)
    return float((hit_QM.sum(1) / np.minimum(K, (near_QM >= 0).sum(1))).mean())
