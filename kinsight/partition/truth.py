"""Neighbours to learn from: exact by blocks, for a sample of pseudo-queries.

Shapes: Q queries, N vectors, K neighbours, D dimensions.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.neighbors.greatest import greatest

_SCORES = 1 << 22  # held at once: 16 MB of float32, which caches hold
_KEEP_S = 60.0  # between two times that a search under way is kept


@dataclass(frozen=True)
class Sought:
    """Where a search stands. rows: how many it has looked at. best_QK: float32, scores of the nearest of them; row_QK:
    int64, -1 for none; both where the queries are.
    """

    rows: int
    best_QK: Tensor
    row_QK: Tensor


def nearest_in_blocks(
    query_QD: Tensor,
    blocks: Iterable[tuple[int, Tensor]],
    k: int,
    *,
    own_Q: Tensor | None = None,
    advance: Callable[[int], None] | None = None,
    devices: Sequence[torch.device] = (),
    begun: Sought | None = None,
    keep: Callable[[Sought], None] | None = None,
) -> Tensor:
    """The k nearest by squared distance, int64 (Q, k), nearest first; -1 where there are fewer; where the queries are.

    blocks: (number of the first row, float32 rows), all vectors once, in any order. own_Q: int64, each query's own row,
    which does not count; -1 for none. Products in float32: of two equally near to its precision either may come first.
    advance: told the rows of each block. devices: that search, each for some of the queries; default: where these are.
    keep: told every minute where the search stands. begun: what it was told, to go on with; `blocks` are then the
    further ones.
    """
    places = devices or (query_QD.device,)
    own = [None] * len(places) if own_Q is None else own_Q.tensor_split(len(places))
    parts = [
        _Part(query_BD.to(place), k, None if own_B is None else own_B.to(place))
        for place, query_BD, own_B in zip(places, query_QD.tensor_split(len(places)), own, strict=True)
    ]
    looked = 0
    if begun is not None:
        _go_on(parts, begun)
        looked = begun.rows
    kept = time.monotonic()
    with ThreadPoolExecutor(len(parts)) as threads:
        for first, row_ND in blocks:
            done = [threads.submit(part.look, first, row_ND) for part in parts[1:]]
            parts[0].look(first, row_ND)
            for each in done:
                each.result()
            looked += len(row_ND)
            if advance is not None:
                advance(len(row_ND))
            if keep is not None and time.monotonic() - kept >= _KEEP_S:
                keep(_stand(parts, looked, query_QD.device))
                kept = time.monotonic()
    return torch.cat([part.found().to(query_QD.device) for part in parts])


class _Part:
    """Some of the queries, and the nearest rows to them so far."""

    def __init__(self, query_QD: Tensor, k: int, own_Q: Tensor | None) -> None:
        self.query_QD, self.k, self.own_Q = query_QD, k, own_Q
        self.best_QK = torch.full((len(query_QD), k), -torch.inf, device=query_QD.device)
        self.row_QK = torch.full((len(query_QD), k), -1, dtype=torch.int64, device=query_QD.device)

    def look(self, first: int, row_ND: Tensor) -> None:
        """At further rows, `first` the number of the first of them."""
        row_ND = row_ND.to(self.query_QD.device, torch.float32)
        half_N = row_ND.square().sum(1) / 2
        step = max(1, _SCORES // max(len(row_ND), 1))
        for start in range(0, len(self.query_QD), step):
            here = slice(start, start + step)
            score_BN = torch.addmm(-half_N, self.query_QD[here], row_ND.T)
            if self.own_Q is not None:
                _hide(score_BN, self.own_Q[here] - first)
            value_BK, place_BK = greatest(score_BN, min(self.k, len(row_ND)))
            value_BM = torch.cat([self.best_QK[here], value_BK], 1)
            row_BM = torch.cat([self.row_QK[here], place_BK + first], 1)
            self.best_QK[here], order_BK = value_BM.topk(self.k, dim=1)
            self.row_QK[here] = row_BM.gather(1, order_BK)

    def found(self) -> Tensor:
        """int64 (Q, k), nearest first."""
        return torch.where(self.best_QK == -torch.inf, -1, self.row_QK)


def _stand(parts: Sequence[_Part], rows: int, place: torch.device) -> Sought:
    best_QK, row_QK = (torch.cat([getattr(part, name).to(place) for part in parts]) for name in ("best_QK", "row_QK"))
    return Sought(rows, best_QK, row_QK)


def _go_on(parts: Sequence[_Part], begun: Sought) -> None:
    sizes = [len(part.query_QD) for part in parts]
    for part, best_BK, row_BK in zip(parts, begun.best_QK.split(sizes), begun.row_QK.split(sizes), strict=True):
        part.best_QK.copy_(best_BK)
        part.row_QK.copy_(row_BK)


def _hide(score_BN: Tensor, own_B: Tensor) -> None:
    inside_B = (own_B >= 0) & (own_B < score_BN.shape[1])
    row_M = inside_B.nonzero().squeeze(1)
    score_BN[row_M, own_B[row_M]] = -torch.inf
