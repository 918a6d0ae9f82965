"""The plain way: every score exact, in blocks of queries. For small sets, huge classes, ties without end and l2.

Also what the fast way hands over to for queries it could not settle.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kinsight.neighbors.vectors import GridVectors, exact_block

_LOWEST = float("-inf")


def score_blocks(
    query: GridVectors, gallery: GridVectors, exclude_Q: Tensor | None, memory_bytes: int
) -> Iterator[tuple[slice, Tensor]]:
    """(queries, score_BN float64) block by block; excluded pairs hold -inf."""
    rows = max(1, memory_bytes // (8 * max(1, len(gallery))))
    columns = max(1, memory_bytes // (8 * max(1, query.row_ND.shape[1])))
    for start in range(0, len(query), rows):
        stop = min(start + rows, len(query))
        block = GridVectors(query.row_ND[start:stop], query.metric, query.unit)
        score_BN = torch.empty(stop - start, len(gallery), dtype=torch.float64, device=query.row_ND.device)
        for left in range(0, len(gallery), columns):
            part = GridVectors(gallery.row_ND[left : left + columns], gallery.metric, gallery.unit)
            score_BN[:, left : left + columns] = exact_block(block, part)
        if exclude_Q is not None:
            mask_excluded(score_BN, exclude_Q[start:stop])
        yield slice(start, stop), score_BN


def mask_excluded(score_BN: Tensor, exclude_B: Tensor) -> None:
    row_E = (exclude_B >= 0).nonzero().squeeze(1)
    score_BN[row_E, exclude_B[row_E]] = _LOWEST


def topk_rows(score_BN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row, equal scores by lower column first: (score_BK, index_BK)."""
    value_BK, index_BK = torch.topk(score_BN, k, dim=1)
    # topk leaves the order of equal values open, and which of those equal to the k-th it takes
    last_B1 = value_BK[:, -1:]
    tied_B = (score_BN == last_B1).sum(1) > (value_BK == last_B1).sum(1)
    if bool(tied_B.any()):
        order = score_BN[tied_B].sort(dim=1, descending=True, stable=True)
        value_BK[tied_B], index_BK[tied_B] = order.values[:, :k], order.indices[:, :k]
    return order_ties(value_BK, index_BK)


def order_ties(value_BK: Tensor, index_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Sort rows by (value descending, index ascending)."""
    index_BK, order = index_BK.sort(dim=1)
    value_BK, by_value = value_BK.gather(1, order).sort(dim=1, descending=True, stable=True)
    return value_BK, index_BK.gather(1, by_value)


def positive_ranks(score_BN: Tensor, query_label_B: Tensor, gallery_label_N: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and 1-based ranks of all positives of a block, row by row, ranks ascending: (row_P, rank_P) int64."""
    order_BN = score_BN.sort(dim=1, descending=True, stable=True)
    positive_BN = gallery_label_N[order_BN.indices] == query_label_B[:, None]
    positive_BN &= order_BN.values > _LOWEST
    row_P, place_P = positive_BN.nonzero(as_tuple=True)
    return row_P, place_P + 1
