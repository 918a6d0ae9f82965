"""Fast approximate products with a proven error bound: what they rule out needs no exact product.

CPU with integer dot instructions: rows rounded to int8, products exact in int32, error from the rounding alone.
Elsewhere: float32 products (tensor cores may round the factors to 10 bits; the bound allows for it).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_NEVER = 2**31 - 1
_LEVELS = 127
# What torch.set_float32_matmul_precision allows to be done to the factors: nothing, TF32, bfloat16.
_FACTOR_ROUNDING = {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-8}
_ROWS = 2048


@dataclass(frozen=True)
class CoarseRows:
    """code_ND: int8 or float32; scale_N[i] * code_ND[i] is row i, but for an error of length residual_N[i] at most."""

    code_ND: Tensor
    scale_N: Tensor
    residual_N: Tensor

    @property
    def is_integer(self) -> bool:
        return self.code_ND.dtype == torch.int8

    @property
    def score_dtype(self) -> torch.dtype:
        return torch.int32 if self.is_integer else torch.float32


def has_int8(device: torch.device) -> bool:
    """Whether int8 products are the fast ones here."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return device.type == "cpu" and hasattr(torch.ops.aten, "_int_mm") and supported is not None and bool(supported())


def mixing_order(row_ND: Tensor, bucket: int, *, unit: bool) -> Tensor:
    """A fixed order: shuffled, but rows of like largest coordinate (hence like scale) near one another.

    Shuffling spreads each class over all tiles; like scales let one threshold per row serve a whole tile.
    unit: the rows will be scaled to unit length.
    """
    generator = torch.Generator().manual_seed(0)
    shuffled_N = torch.randperm(len(row_ND), generator=generator).to(row_ND.device)
    if not has_int8(row_ND.device):
        return shuffled_N
    peaks = []
    for row_BD in row_ND.split(_ROWS):
        peak_B = row_BD.abs().amax(1).float()
        peaks.append(peak_B / row_BD.float().norm(dim=1) if unit else peak_B)
    peak_N = torch.cat(peaks)[shuffled_N]
    rank_N = torch.empty_like(shuffled_N)
    rank_N[peak_N.argsort(stable=True)] = torch.arange(len(row_ND), device=row_ND.device)
    return shuffled_N[(rank_N // bucket).argsort(stable=True)]


def encode(row_ND: Tensor, multiple: int) -> CoarseRows:
    """Code rows (unit length at most, but for rounding), zero rows appended up to a multiple of `multiple`."""
    count, dim = row_ND.shape
    total = -(-count // multiple) * multiple
    integer = has_int8(row_ND.device) and dim < 2**31 // _LEVELS**2
    code_ND = torch.zeros(total, dim, dtype=torch.int8 if integer else torch.float32, device=row_ND.device)
    scale_N = torch.ones(total, dtype=torch.float64, device=row_ND.device)
    residual_N = torch.zeros_like(scale_N)
    for start in range(0, count, _ROWS):
        stop = min(start + _ROWS, count)
        row_BD = row_ND[start:stop]
        if not integer:
            code_ND[start:stop], residual_N[start:stop] = row_BD, float_error(row_ND)
            continue
        scale_B = (row_BD.abs().amax(1) / _LEVELS).clamp(min=2.0**-60)
        code_BD = (row_BD / scale_B[:, None]).round_()
        code_ND[start:stop] = code_BD.to(torch.int8)
        scale_N[start:stop] = scale_B
        # the norm is taken in float32: the last terms cover its rounding
        residual_N[start:stop] = code_BD.mul_(scale_B[:, None]).sub_(row_BD).norm(dim=1).mul_(1 + 1e-4).add_(1e-6)
    if count < total and count:
        scale_N[count:] = scale_N[count - 1]
    return CoarseRows(code_ND, scale_N, residual_N)


def float_error(row_ND: Tensor) -> float:
    """Per side: rounding of the factors, and half of what float32 summation in any order may lose."""
    rounding = _FACTOR_ROUNDING[torch.get_float32_matmul_precision()]
    if row_ND.device.type != "cpu":
        rounding = max(rounding, 2.0**-10)
    return rounding + (row_ND.shape[1] + 2) * 2.0**-24


def thresholds(query: CoarseRows, other: CoarseRows, rows: slice, others: slice, floor_R: Tensor) -> Tensor:
    """Per query row the coarse score that every exact score >= floor_R[i] with the rows `others` reaches.

    |<x, y> - <x', y'>| <= |x - x'| |y| + |x'| |y - y'|, all rows at most unit length.
    """
    residual_R = query.residual_N[rows]
    scale_O, worst = other.scale_N[others], other.residual_N[others].max()
    limit_R = floor_R - residual_R * (1 + 1e-6) - worst * (1 + 1e-6 + residual_R)
    scale_R = query.scale_N[rows] * torch.where(limit_R > 0, scale_O.max(), scale_O.min())
    limit_R = limit_R / scale_R
    if query.is_integer:
        return limit_R.sub_(1).floor_().clamp_(-_NEVER, _NEVER).to(torch.int32)
    return (limit_R - 1e-6).to(torch.float32)


def product(query_code_RD: Tensor, other_code_CD: Tensor, out_RC: Tensor) -> Tensor:
    """Coarse scores of two blocks, written into `out_RC` (int32 or float32); int8 wants more than 16 rows."""
    if query_code_RD.dtype == torch.int8:
        return torch.ops.aten._int_mm.out(query_code_RD, other_code_CD.T, out=out_RC)
    return torch.mm(query_code_RD, other_code_CD.T, out=out_RC)
