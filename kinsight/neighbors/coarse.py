"""Fast approximate products with a proven error bound: what they rule out needs no exact product.

CPU with integer dot instructions: rows rounded to int8, products exact in int32, error from the rounding alone.
Elsewhere: float32 products (tensor cores may round the factors to 10 bits; the bound allows for it).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_NEVER = 2**31 - 1
_CLIP_RMS = (
    2.5,
    3.0,
    3.5,
    4.0,
    4.5,
    5.0,
    6.0,
    8.0,
    12.0,
    20.0,
)  # clipping points tried, in units of the rms coordinate
# What torch.set_float32_matmul_precision allows to be done to the factors: nothing, TF32, bfloat16.
_FACTOR_ROUNDING = {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-8}
_SLACK = 1e-6  # float32 rounding in the residual norms themselves


@dataclass(frozen=True)
class CoarseRows:
    """code_ND: int8 or float32 rows; residual_N: bound on |row - coded row|; step: real value of one code unit."""

    code_ND: Tensor
    residual_N: Tensor
    step: float

    @property
    def is_integer(self) -> bool:
        return self.code_ND.dtype == torch.int8

    @property
    def score_dtype(self) -> torch.dtype:
        return torch.int32 if self.is_integer else torch.float32

    @property
    def never(self) -> float:
        """A threshold that no score reaches."""
        return _NEVER if self.is_integer else float("inf")

    def rows(self, start: int, stop: int) -> Tensor:
        return self.code_ND[start:stop]


def has_int8(device: torch.device) -> bool:
    """Whether int8 products are the fast ones here."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return device.type == "cpu" and hasattr(torch.ops.aten, "_int_mm") and supported is not None and bool(supported())


def encode(row_ND: Tensor, step: float | None, order_N: Tensor | None = None) -> CoarseRows:
    """Code rows (taken in `order_N`); `step` None: as float32. Rows exceed unit length by rounding at most."""
    count, dim = len(row_ND), row_ND.shape[1]
    if step is None:
        rounding = _FACTOR_ROUNDING[torch.get_float32_matmul_precision()]
        if row_ND.device.type != "cpu":
            rounding = max(rounding, 2.0**-10)
        # factors' rounding plus float32 accumulation, D terms in any order
        residual = rounding + (dim + 2) * 2.0**-24
        code_ND = row_ND if order_N is None else row_ND[order_N]
        return CoarseRows(code_ND, torch.full((count,), residual, device=row_ND.device), 1.0)
    code_ND = torch.empty(count, dim, dtype=torch.int8, device=row_ND.device)
    residual_N = torch.empty(count, device=row_ND.device)
    for start in range(0, count, 2048):
        here = slice(start, start + 2048)
        row_BD = row_ND[here] if order_N is None else row_ND[order_N[here]]
        code_BD = (row_BD / step).round_().clamp_(-127, 127)
        code_ND[here] = code_BD.to(torch.int8)
        residual_N[here] = code_BD.mul_(step).sub_(row_BD).norm(dim=1)
    return CoarseRows(code_ND, residual_N.mul_(1 + 1e-4).add_(_SLACK), step)


def choose_step(row_ND: Tensor) -> float | None:
    """The int8 step that loses least on a sample of rows; None where int8 is not fast or too coarse to help."""
    if not has_int8(row_ND.device) or row_ND.shape[1] > 100_000:
        return None
    sample = row_ND[:: max(1, len(row_ND) // 2048)]
    rms = float(sample.square().mean().sqrt())
    if rms == 0:
        return None
    losses = []
    for clip in _CLIP_RMS:
        step = clip * rms / 127
        residual = (sample - (sample / step).round_().clamp_(-127, 127).mul_(step)).norm(dim=1)
        losses.append((float(residual.mean() + residual.max()), step))
    loss, step = min(losses)
    return step if loss < 0.1 else None


def thresholds(query: CoarseRows, other: CoarseRows, score_Q: Tensor) -> Tensor:
    """Coarse thresholds: an exact score >= score_Q[i] always has a coarse score >= the result (score dtype).

    |<x,y> - <x',y'>| <= |x - x'| |y| + |x'| |y - y'|, all rows at most unit length.
    """
    worst = float(other.residual_N.max()) if len(other.residual_N) else 0.0
    slack_Q = query.residual_N.double() * (1 + 1e-6) + worst * (1 + 1e-6 + query.residual_N.double())
    limit_Q = (score_Q - slack_Q) / (query.step * other.step)
    if query.is_integer:
        return limit_Q.sub_(1).floor_().clamp_(-_NEVER, _NEVER).to(torch.int32)
    return (limit_Q - 1e-6).to(torch.float32)


def product(query_code_BD: Tensor, other_code_BD: Tensor, out_BB: Tensor) -> Tensor:
    """Coarse scores of two blocks, written into `out_BB` (int32 or float32)."""
    if query_code_BD.dtype == torch.int8:
        return torch.ops.aten._int_mm.out(query_code_BD, other_code_BD.T, out=out_BB)
    return torch.mm(query_code_BD, other_code_BD.T, out=out_BB)
