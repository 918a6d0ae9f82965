"""Augmentation of whole batches on their device: what needs no pixels beyond the ones already decoded."""

from collections.abc import Callable
from typing import assert_never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from kinsight.data.random import Purpose, uniform
from kinsight.specs.data import Augment, LightAugment, NoAugment, PhotoAugment, SymbolAugment

DeviceAugment = Callable[[Tensor, int, npt.NDArray[np.int64] | Tensor], Tensor]
"""(uint8 images_BCHW on any device, epoch, index_B) -> images_BCHW, uint8 or float in 0..255."""


def build_device_augment(augment: Augment, *, seed: int) -> DeviceAugment:
    """The part of `augment` that happens on the device; crops and flips of photos have happened while decoding."""
    match augment:
        case SymbolAugment():

            def distort(images_BCHW: Tensor, epoch: int, index_B: npt.NDArray[np.int64] | Tensor) -> Tensor:
                draws_BK = uniform(seed, epoch, np.asarray(index_B), 5, purpose=Purpose.SYMBOL)
                return warp(images_BCHW, symbol_transforms(augment, draws_BK))

            return distort
        case PhotoAugment() | LightAugment() | NoAugment():
            return lambda images_BCHW, epoch, index_B: images_BCHW
    assert_never(augment)


def symbol_transforms(augment: SymbolAugment, draws_BK: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Random affine maps, float32 (B, 2, 3), from output to input places; the square spans -1..1 on both axes.

    draws_BK: five uniform numbers in [0, 1) per image: rotation, size, shear, shift right, shift down.
    """
    angle, size, shear, right, down = (2 * draws_BK - 1).T
    angle, shear = np.radians(angle * augment.rotate_deg), np.tan(np.radians(shear * augment.shear_deg))
    # Of "scale, shear, rotate, shift" the inverse, in closed form.
    cos, sin, shrink = np.cos(angle), np.sin(angle), 1 / (1 + augment.scale * size)
    inverse = np.empty((len(draws_BK), 2, 3))
    inverse[:, 0, 0], inverse[:, 0, 1] = shrink * (cos + shear * sin), shrink * (sin - shear * cos)
    inverse[:, 1, 0], inverse[:, 1, 1] = -shrink * sin, shrink * cos
    shift = 2 * augment.translate * np.stack([right, down], axis=1)
    inverse[:, :, 2] = -np.einsum("bij,bj->bi", inverse[:, :, :2], shift)
    return inverse.astype(np.float32)


def warp(images_BCHW: Tensor, transforms_B23: npt.NDArray[np.float32]) -> Tensor:
    """Images resampled bilinearly through affine maps: float32 in 0..255. Beyond the border its pixels go on."""
    theta_B23 = torch.from_numpy(transforms_B23).to(images_BCHW.device, non_blocking=True)
    grid_BHW2 = F.affine_grid(theta_B23, list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW.float(), grid_BHW2, padding_mode="border", align_corners=False)
