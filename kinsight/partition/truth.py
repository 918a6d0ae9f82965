"""Neighbours to learn from: exact by blocks, for a sample of pseudo-queries.

Shapes: Q queries, N vectors, K neighbours, D dimensions.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from kinsight.neighbors.greatest import greatest

_SCORES = 1 << 22  # held at once: 16 MB of float32, which caches hold


def nearest_in_blocks(
    query_QD: Tensor,
    blocks: Iterable[tuple[int, Tensor]],
    k: int,
    *,
    own_Q: Tensor | None = None,
    advance: Callable[[int], None] | None = None,
) -> Tensor:
    """The k nearest by squared distance, int64 (Q, k), nearest first; -1 where there are fewer.

    blocks: (number of the first row, float32 rows), all vectors once, in any order. own_Q: int64, each query's own row,
    which does not count; -1 for none. Products in float32: of two equally near to its precision either may come first.
    advance: told the rows of each block.
    """
    best_QK = torch.full((len(query_QD), k), -torch.inf, device=query_QD.device)
    row_QK = torch.full((len(query_QD), k), -1, dtype=torch.int64, device=query_QD.device)
    for first, row_ND in blocks:
        row_ND = row_ND.to(query_QD.device, torch.float32)
        half_N = row_ND.square().sum(1) / 2
        for start in range(0, len(query_QD), max(1, _SCORES // max(len(row_ND), 1))):
            here = slice(start, start + max(1, _SCORES // max(len(row_ND), 1)))
            score_BN = torch.addmm(-half_N, query_QD[here], row_ND.T)
            if own_Q is not None:
                _hide(score_BN, own_Q[here] - first)
            value_BK, place_BK = greatest(score_BN, min(k, len(row_ND)))
            value_BM = torch.cat([best_QK[here], value_BK], 1)
            row_BM = torch.cat([row_QK[here], place_BK + first], 1)
            best_QK[here], order_BK = value_BM.topk(k, dim=1)
            row_QK[here] = row_BM.gather(1, order_BK)
        if advance is not None:
            advance(len(row_ND))
    return torch.where(best_QK == -torch.inf, -1, row_QK)


def _hide(score_BN: Tensor, own_B: Tensor) -> None:
    inside_B = (own_B >= 0) & (own_B < score_BN.shape[1])
    row_M = inside_B.nonzero().squeeze(1)
    score_BN[row_M, own_B[row_M]] = -torch.inf
