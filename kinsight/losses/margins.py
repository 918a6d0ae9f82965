"""What a margin does to the cosine between an embedding and its own class; all other classes' logits stay as they are.

Each function maps cosines (any shape, float32 or wider) to modified cosines of the same shape, never rises with the
angle over [0, pi] (but for `arc_margin` with `easy`), and has finite gradients on all of [-1, 1], also where rounding
leaves that interval by a few ulp.
"""

import math

import torch
from torch import Tensor


def lowered_cosine(cos: Tensor, *, margin: float) -> Tensor:
    """cos(theta) - margin. Wang et al. 2018 (AM-Softmax), eq. 5; Wang et al. 2018 (CosFace), eq. 4."""
    return cos - margin


def widened_angle(cos: Tensor, *, margin_rad: float | Tensor) -> Tensor:
    """cos(theta + m) up to theta = pi - m; beyond, cos(theta) - m sin(m), which goes on falling.

    margin_rad: m in radians, 0 to pi/2, or one for each cosine. Deng et al. 2019 (ArcFace), eq. 3. At cos = +-1 the
    angle has no derivative; there the term with sin(theta) passes no gradient.
    """
    cos_m, sin_m = _cos_sin(margin_rad)
    wider = cos * cos_m - _sine(cos) * sin_m
    return torch.where(cos >= -cos_m, wider, cos - margin_rad * sin_m)


def arc_margin(cos: Tensor, *, margin_rad: float, easy: bool = False) -> Tensor:
    """PaddlePaddle's widened angle: c cos(m) - sqrt(1 - c^2 + 1e-6) sin(m) with c = cos(theta).

    For c up to cos(pi - m) it is c - m sin(pi - m) instead; with `easy` it is c itself wherever c is not above 0, a
    step upwards at 90 degrees.
    """
    sin = ((1 - cos) * (1 + cos)).clamp_min(0).add(1e-6).sqrt()
    wider = cos * math.cos(margin_rad) - sin * math.sin(margin_rad)
    if easy:
        return torch.where(cos > 0, wider, cos)
    return torch.where(cos > -math.cos(margin_rad), wider, cos - margin_rad * math.sin(margin_rad))


def shifted_angle(cos: Tensor, *, shift_rad: Tensor) -> Tensor:
    """cos(theta + g) with theta + g cut off at 0 and at pi, where it stays 1 and -1 and passes no gradient.

    shift_rad: g in radians, -pi/2 to pi/2, for each cosine. At cos = +-1 see `widened_angle`.
    """
    cos_g, sin_g = shift_rad.cos(), shift_rad.sin()
    shifted = cos * cos_g - _sine(cos) * sin_g
    shifted = torch.where((shift_rad < 0) & (cos >= cos_g), 1, shifted)
    return torch.where((shift_rad > 0) & (cos <= -cos_g), -1, shifted)


def multiplied_angle(cos: Tensor, *, margin: int) -> Tensor:
    """psi(theta) = (-1)^k cos(m theta) - 2k with k = floor(m theta / pi); from 1 at theta = 0 to 1 - 2m at pi.

    margin: m, a whole number from 1. Liu et al. 2016 (Large-Margin Softmax), eq. 6; Liu et al. 2017 (SphereFace),
    eq. 7.
    cos(m theta) is the Chebyshev polynomial T_m(cos theta), so no angle is computed and no gradient is infinite.
    """
    before, multiple = torch.ones_like(cos), cos
    for _ in range(margin - 1):
        before, multiple = multiple, 2 * cos * multiple - before
    with torch.no_grad():
        # theta = pi itself may count as k = m - 1: both pieces give 1 - 2m there.
        k = torch.zeros_like(cos)
        for step in range(1, margin):
            k += cos <= math.cos(step * math.pi / margin)
        sign = 1 - 2 * (k % 2)
    return sign * multiple - 2 * k


def _sine(cos: Tensor) -> Tensor:
    """sin(theta), without gradient where it is smaller than rounding lets one know."""
    sin_squared = (1 - cos) * (1 + cos)
    smooth = sin_squared > torch.finfo(cos.dtype).eps
    # The inner `where` keeps the root's infinite slope out of the graph: 0 * inf would be nan.
    return torch.where(smooth, torch.where(smooth, sin_squared, 1).sqrt(), sin_squared.detach().clamp_min(0).sqrt())


def _cos_sin(angle_rad: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    if isinstance(angle_rad, Tensor):
        return angle_rad.cos(), angle_rad.sin()
    return math.cos(angle_rad), math.sin(angle_rad)
