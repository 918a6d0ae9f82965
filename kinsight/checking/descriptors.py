"""Short vectors of pictures and of their crops, under which a copy lies near its original.

A descriptor is a picture squeezed to SIDE x SIDE, without its mean, at unit length: neither size, coding nor brightness
and contrast change it much. A crop is found through the descriptors of parts of the other picture: the parts of BOXES
lie so close together that some box is near any crop that keeps 3/4 of both sides or more.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SIDE = 12


class Box(NamedTuple):
    """A part of a picture, in shares of its sides."""

    left: float
    top: float
    width: float
    height: float


def _boxes() -> tuple[Box, ...]:
    spans = ((0, 1), (0, 0.9), (0.1, 0.9), (0, 0.8), (0.1, 0.8), (0.2, 0.8))
    return tuple(Box(left, top, width, height) for top, height in spans for left, width in spans)


BOXES = _boxes()


def describe(small_BHW: np.ndarray, box: Box = BOXES[0]) -> Tensor:
    """Descriptors of a part of small pictures: float32 (B, SIDE * SIDE), unit rows; zero rows for plain ones.

    small_BHW: uint8 squares.
    """
    pixels_BHW = torch.from_numpy(np.ascontiguousarray(small_BHW)).float()
    side = pixels_BHW.shape[-1]
    rows = _averaging(side, box.top, box.height)
    columns = _averaging(side, box.left, box.width)
    part_BD = (rows @ pixels_BHW @ columns.T).flatten(1)
    part_BD -= part_BD.mean(1, keepdim=True)
    norm_B1 = part_BD.norm(dim=1, keepdim=True)
    return torch.where(norm_B1 > SIDE / 2, part_BD / norm_B1.clamp_min(1e-6), 0.0)


def _averaging(side: int, start: float, length: float) -> Tensor:
    """(SIDE, side): each row averages over its share of [start, start + length], pixels counted as far as covered."""
    edges = side * (start + length * torch.arange(SIDE + 1, dtype=torch.float64) / SIDE)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(side, dtype=torch.float64)[None]
    covered = (torch.minimum(high, pixel + 1) - torch.maximum(low, pixel)).clamp_min(0)
    return (covered / covered.sum(1, keepdim=True)).float()
