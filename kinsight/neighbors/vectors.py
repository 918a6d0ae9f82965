"""Vectors on a grid so fine and so bounded that their inner products are exact in float64.

Ordinary float products depend on the order of summation, hence on block shapes, threads and libraries; ranks would too.
Here each coordinate is a multiple of 2^-26 and each row at most (a hair over) unit length, so every partial sum of
products is a multiple of 2^-52 below 2: float64 holds it without rounding, whatever the order. Equal similarity is
therefore a fact about the two vectors, and "lower gallery index first" breaks every tie the same way everywhere.
"""

import math
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError

Metric = Literal["cosine", "ip", "l2"]

GRID_BITS = 26
_ROWS = 1024  # rows converted at a time: bounds the float64 temporaries


@dataclass(frozen=True)
class GridVectors:
    """Rows on the grid. row_ND: float32, norms at most 1 (l2: 1/2); unit: length of 1.0 on the grid in user's units."""

    row_ND: Tensor
    metric: Metric
    unit: float

    def __len__(self) -> int:
        return self.row_ND.shape[0]

    def take(self, index_N: Tensor) -> "GridVectors":
        return GridVectors(self.row_ND[index_N], self.metric, self.unit)

    def user_similarity(self, score: Tensor) -> Tensor:
        """Grid scores (float64) in the caller's units, float32: cosine, inner product or negative squared distance."""
        return self.exact_similarity(score).to(torch.float32)

    def exact_similarity(self, score: Tensor) -> Tensor:
        """The same in float64, exact: `unit` is a power of two."""
        return score * (self.unit * self.unit)


def grid(
    query_QD: Tensor,
    gallery_ND: Tensor | None,
    metric: Metric,
    device: torch.device,
    gallery_order_N: Tensor | None = None,
) -> tuple[GridVectors, GridVectors]:
    """Query and gallery on one grid; `gallery_ND` None: the queries search among themselves (both entries the same).

    gallery_order_N: the order in which the gallery's rows are stored, else as given.

    Raises DataError for a wrong shape, NaN or infinity (names the row), a zero vector under cosine.
    """
    sides = (query_QD,) if gallery_ND is None else (query_QD, gallery_ND)
    names = ("embeddings",) if gallery_ND is None else ("query", "gallery")
    norms = [row_norms(side, name, metric) for side, name in zip(sides, names, strict=True)]
    if gallery_ND is not None and query_QD.shape[1] != gallery_ND.shape[1]:
        raise DataError(
            "neighbors.dimension",
            f"query vectors have {query_QD.shape[1]} dimensions, gallery vectors {gallery_ND.shape[1]}",
            remedy="embed both with the same model",
        )
    longest = max((float(norm.max()) for norm in norms if len(norm)), default=0.0) or 1.0
    unit = grid_unit(metric, longest)
    scales = norms if metric == "cosine" else [torch.full_like(norm, unit) for norm in norms]
    gallery = GridVectors(on_grid(sides[-1], scales[-1], gallery_order_N, device), metric, unit)
    if gallery_ND is None:
        return gallery, gallery
    return GridVectors(on_grid(query_QD, scales[0], None, device), metric, unit), gallery


def grid_unit(metric: Metric, longest: float) -> float:
    """What stands for 1.0 on a grid that holds rows up to this length."""
    power = 2.0 ** math.ceil(math.log2(longest))  # a power of two: vectors of small integers stay exact
    match metric:
        case "cosine":
            return 1.0
        case "ip":
            return power
        case "l2":
            return 2.0 * power  # |x - y|^2 then stays below 1 as well
        case _:
            assert_never(metric)


def exact_block(query: GridVectors, gallery: GridVectors) -> Tensor:
    """All grid scores, float64 (Q, N), exact."""
    query_QD, gallery_ND = query.row_ND.double(), gallery.row_ND.double()
    score_QN = query_QD @ gallery_ND.T
    if query.metric == "l2":
        score_QN.mul_(2).sub_(gallery_ND.square().sum(1)).sub_(query_QD.square().sum(1)[:, None])
    return score_QN


def exact_pairs(query: GridVectors, gallery: GridVectors, query_P: Tensor, gallery_P: Tensor) -> Tensor:
    """Grid scores of the pairs (query_P[p], gallery_P[p]), float64 (P,), exact."""
    score_P = torch.empty(len(query_P), dtype=torch.float64, device=query_P.device)
    step = max(1, 2**19 // max(1, query.row_ND.shape[1]))
    for start in range(0, len(query_P), step):
        here = slice(start, start + step)
        a_PD = query.row_ND.index_select(0, query_P[here]).double()
        b_PD = gallery.row_ND.index_select(0, gallery_P[here]).double()
        if query.metric == "l2":
            score_P[here] = -(a_PD - b_PD).square_().sum(1)
        else:
            score_P[here] = a_PD.mul_(b_PD).sum(1)
    return score_P


def check_metric(metric: str) -> None:
    if metric not in ("cosine", "ip", "l2"):
        raise SpecError("neighbors.metric", f"metric={metric!r}: must be 'cosine', 'ip' or 'l2'", remedy="use 'cosine'")


def row_norms(side_ND: Tensor, name: str, metric: Metric) -> Tensor:
    """Lengths of rows, float64 on the CPU. Raises DataError as `grid`; `name` is what its messages call the rows."""
    if side_ND.ndim != 2 or not side_ND.dtype.is_floating_point:
        raise DataError(
            "neighbors.shape",
            f"{name} has shape {tuple(side_ND.shape)} and type {side_ND.dtype}; expected floating-point rows (N, D)",
            remedy="pass one row per item",
        )
    norm_N = torch.empty(len(side_ND), dtype=torch.float64)
    for start in range(0, len(side_ND), _ROWS):
        norm_N[start : start + _ROWS] = side_ND[start : start + _ROWS].double().norm(dim=1).cpu()
    bad = (~norm_N.isfinite()).nonzero()
    if len(bad):
        raise DataError(
            "neighbors.not-finite",
            f"{name} row {int(bad[0])} holds NaN or infinity ({len(bad)} of {len(side_ND)} rows do)",
            remedy="look for a diverged model or broken images behind these rows",
        )
    zero = (norm_N == 0).nonzero()
    if metric == "cosine" and len(zero):
        raise DataError(
            "neighbors.zero-vector",
            f"{name} row {int(zero[0])} is a zero vector ({len(zero)} are): it has no cosine similarity",
            remedy="drop these rows, or use metric 'ip' or 'l2'",
        )
    return norm_N


def on_grid(side_ND: Tensor, scale_N: Tensor, order_N: Tensor | None, device: torch.device) -> Tensor:
    """Rows divided by `scale_N` (float64) and rounded to the grid, float32; in the order given, if one is."""
    out_ND = torch.empty(side_ND.shape, dtype=torch.float32, device=device)
    for start in range(0, len(side_ND), _ROWS):
        here = slice(start, start + _ROWS)
        pick = here if order_N is None else order_N[here].to(side_ND.device)
        row_BD = side_ND[pick].to(device).double()
        row_BD.div_(scale_N[pick].to(device)[:, None])
        # float32 first: what it rounds to above 1/4 is on the grid already, below that the grid is the coarser one
        row_BD = row_BD.float().double().mul_(2.0**GRID_BITS).round_().mul_(2.0**-GRID_BITS)
        out_ND[here] = row_BD
    return out_ND
