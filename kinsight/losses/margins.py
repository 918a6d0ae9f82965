"""What a margin does to the cosine between an embedding and its own class; all other classes' logits stay as they are.

Each function maps cosines (any shape, float32 or wider) to modified cosines of the same shape, falls with the angle
over [0, pi], and has finite gradients on all of [-1, 1], also where rounding leaves that interval by a few ulp.
"""

import math

import torch
from torch import Tensor


def lowered_cosine(cos: Tensor, *, margin: float) -> Tensor:
    """cos(theta) - margin. Wang et al. 2018 (AM-Softmax), eq. 5; Wang et al. 2018 (CosFace), eq. 4."""
    return cos - margin


def widened_angle(cos: Tensor, *, margin_rad: float) -> Tensor:
    """cos(theta + m) up to theta = pi - m; beyond, cos(theta) - m sin(m), which goes on falling.

    margin_rad: m in radians, 0 to pi/2. Deng et al. 2019 (ArcFace), eq. 3. At cos = +-1 the angle has no derivative;
    there the term with sin(theta) passes no gradient.
    """
    sin_squared = (1 - cos) * (1 + cos)
    smooth = sin_squared > torch.finfo(cos.dtype).eps
    # The inner `where` keeps the root's infinite slope out of the graph: 0 * inf would be nan.
    sin = torch.where(smooth, torch.where(smooth, sin_squared, 1).sqrt(), sin_squared.detach().clamp_min(0).sqrt())
    wider = cos * math.cos(margin_rad) - sin * math.sin(margin_rad)
    return torch.where(cos >= -math.cos(margin_rad), wider, cos - margin_rad * math.sin(margin_rad))


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
