"""Laying one picture over another: the part of the moving picture that looks like the fixed one, and how alike it is.

The part is a box (two scales, two shifts), found by Gauss-Newton steps from a first guess; brightness and contrast are
fitted along (Lucas and Kanade 1981; Baker and Matthews 2004, forward additive). All pairs of a batch move at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_DAMPING = 1e-3
_WINDOWS = 6  # a side
_SHOWS = 0.03  # variance of a window that shows something, as a share of the mean window's
_MOST = 0.25  # largest change of a step, in half sides


@dataclass(frozen=True)
class Fit:
    """placement_B4: scale and shift of x, then of y: fixed x in [-1, 1] is seen at scale * x + shift of the moving one.

    alike_B: correlation of both over their common part, -1 to 1. weakest_B: the same in the tenth of small windows in
    which it is lowest, over windows that show anything. overlap_B: share of the fixed picture that the moving one has.
    """

    placement_B4: Tensor
    alike_B: Tensor
    weakest_B: Tensor
    overlap_B: Tensor


def register(
    fixed_BHW: Tensor, moving_BHW: Tensor, placement_B4: Tensor, *, blurs: tuple[float, ...], steps: int
) -> Fit:
    """Improve first guesses of the placement. Pictures: float32 squares of one size, any range.

    blurs: standard deviations in pixels, from coarse to fine, `steps` steps each; alikeness is measured at the last.
    """
    placement_B4 = placement_B4.clone()
    for sigma in blurs:
        fixed, moving = _blurred(fixed_BHW, sigma), _blurred(moving_BHW, sigma)
        layers = _with_slopes(moving)
        for _ in range(steps):
            placement_B4 = _step(fixed, layers, placement_B4)
    sigma = blurs[-1]
    return _measure(_blurred(fixed_BHW, sigma), _blurred(moving_BHW, sigma), placement_B4)


def warp(layers_BCHW: Tensor, placement_B4: Tensor) -> tuple[Tensor, Tensor]:
    """Layers seen through the placement, (B, C, H, W), and where they have anything to show, float (B, H, W)."""
    side = layers_BCHW.shape[-1]
    at = _axis(side, layers_BCHW)
    x_BW = placement_B4[:, 0:1] * at + placement_B4[:, 1:2]
    y_BH = placement_B4[:, 2:3] * at + placement_B4[:, 3:4]
    grid = torch.stack(
        [x_BW[:, None, :].expand(-1, side, -1), y_BH[:, :, None].expand(-1, -1, side)],
        dim=-1,
    )
    seen = F.grid_sample(layers_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = (x_BW.abs() <= 1)[:, None, :] & (y_BH.abs() <= 1)[:, :, None]
    return seen, inside.to(seen.dtype)


def _step(fixed_BHW: Tensor, layers_BCHW: Tensor, placement_B4: Tensor) -> Tensor:
    at = _axis(fixed_BHW.shape[-1], fixed_BHW)
    seen_BCHW, inside_BHW = warp(layers_BCHW, placement_B4)
    seen, slope_x, slope_y = seen_BCHW.unbind(1)
    # what seen changes by with scale and shift of x, of y; contrast and brightness of the fixed picture; seen itself
    columns = [slope_x * at, slope_x, slope_y * at[:, None], slope_y, fixed_BHW, torch.ones_like(seen), seen]
    system_B7P = torch.stack(columns, 1).mul_(inside_BHW[:, None]).flatten(2)
    product_B77 = system_B7P @ system_B7P.mT
    normal_B66 = product_B77[:, :6, :6].clone()
    normal_B66[:, :4, 4:] *= -1
    normal_B66[:, 4:, :4] *= -1
    right_B6 = product_B77[:, :6, 6].clone()
    right_B6[:, 4:] *= -1
    normal_B66.diagonal(dim1=1, dim2=2).mul_(1 + _DAMPING).add_(1e-6)
    change_B6 = torch.linalg.solve(normal_B66, -right_B6)
    return placement_B4 + change_B6[:, :4].clamp(-_MOST, _MOST)


def _measure(fixed_BHW: Tensor, moving_BHW: Tensor, placement_B4: Tensor) -> Fit:
    seen_BHW, inside_BHW = warp(moving_BHW[:, None], placement_B4)
    seen_BHW = seen_BHW[:, 0]
    overlap_B = inside_BHW.mean((1, 2))
    whole = _correlation(fixed_BHW, seen_BHW, inside_BHW, windows=1)
    alike_B = whole[0].flatten()
    local_BK, energy_BK = _correlation(fixed_BHW, seen_BHW, inside_BHW, windows=_WINDOWS)
    shows_BK = energy_BK > _SHOWS * energy_BK.mean(1, keepdim=True)
    ordered = torch.where(shows_BK, local_BK, 2.0).sort(1).values
    tenth_B1 = (shows_BK.sum(1, keepdim=True) // 10).clamp(max=ordered.shape[1] - 1)
    return Fit(placement_B4, alike_B, ordered.gather(1, tenth_B1).squeeze(1), overlap_B)


def _correlation(a_BHW: Tensor, b_BHW: Tensor, weight_BHW: Tensor, *, windows: int) -> tuple[Tensor, Tensor]:
    """Correlation in each of windows x windows parts, (B, windows^2), and how much there is to see in each."""

    def mean(x_BHW: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x_BHW[:, None], windows).flatten(1)

    weight = mean(weight_BHW).clamp_min(1e-6)
    mean_a, mean_b = mean(a_BHW * weight_BHW) / weight, mean(b_BHW * weight_BHW) / weight
    var_a = mean(a_BHW.square() * weight_BHW) / weight - mean_a.square()
    var_b = mean(b_BHW.square() * weight_BHW) / weight - mean_b.square()
    both = mean(a_BHW * b_BHW * weight_BHW) / weight - mean_a * mean_b
    floor = 1e-4
    alike = both / (var_a.clamp_min(floor) * var_b.clamp_min(floor)).sqrt()
    return alike, torch.maximum(var_a, var_b) * (weight > 0.5)


def _with_slopes(image_BHW: Tensor) -> Tensor:
    """The picture and its slopes per half side, (B, 3, H, W)."""
    padded = F.pad(image_BHW[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    half = image_BHW.shape[-1] / 2
    slope_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * (half / 2)
    slope_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * (half / 2)
    return torch.stack([image_BHW, slope_x, slope_y], 1)


def _blurred(image_BHW: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, edges repeated; as two products of matrices, which for small pictures is the quick way."""
    side = image_BHW.shape[-1]
    reach = max(1, round(2.5 * sigma))
    at = torch.arange(-reach, reach + 1, device=image_BHW.device)
    kernel = torch.exp(-0.5 * (at / sigma).square()).to(image_BHW.dtype)
    rows = torch.arange(side, device=image_BHW.device)[:, None]
    blur = torch.zeros(side, side, dtype=image_BHW.dtype, device=image_BHW.device)
    blur.scatter_add_(1, (rows + at).clamp(0, side - 1), (kernel / kernel.sum()).expand(side, -1))
    return blur @ image_BHW @ blur.T


def _axis(side: int, like: Tensor) -> Tensor:
    """Centres of pixels in [-1, 1]."""
    return (torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) * (2 / side) - 1
