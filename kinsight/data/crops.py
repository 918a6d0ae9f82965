"""Which part of an image the network sees, decided from its size alone, before any pixel is decoded."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from kinsight.data.random import Purpose, uniform
from kinsight.specs.data import Augment, ImageSpec, LightAugment, NoAugment, PhotoAugment, SymbolAugment

TRIES = 10
DRAWS = 2 * TRIES + 3  # area and ratio of each try, two corners, the flip
MIN_RATIO, MAX_RATIO = 3 / 4, 4 / 3


class Crop(NamedTuple):
    """A box in whole pixels of the upright image, and whether the result is mirrored."""

    left: int
    top: int
    width: int
    height: int
    mirror: bool = False


ChooseCrop = Callable[[int, int], Crop]
"""(width, height) of the upright image -> its crop."""


def evaluation_crop(width: int, height: int, share: float) -> Crop:
    """The centre square whose side is `share` of the shorter side; the whole image, to be squeezed, when share is 1.

    The same picture as resizing the shorter side to size / share and cutting the centre, without the pixels in between.
    """
    if share >= 1:
        return Crop(0, 0, width, height)
    side = max(1, round(min(width, height) * share))
    return Crop((width - side) // 2, (height - side) // 2, side, side)


def random_crop(
    width: int, height: int, draws: Sequence[float], *, min_area: float, flip: bool, max_area: float = 1.0
) -> Crop:
    """A random box: area uniform in [min_area, max_area] of the image, aspect ratio log-uniform in [3/4, 4/3].

    draws: `DRAWS` uniform numbers in [0, 1). The first of ten boxes that fits is placed at random; when none
    fits, the largest centred box of an allowed ratio is taken (as in Szegedy et al. 2015). With min_area 1 the whole
    image is meant, whatever its ratio.
    """
    mirror = flip and draws[2 * TRIES + 2] < 0.5
    if min_area >= 1:
        return Crop(0, 0, width, height, mirror)
    log_low, log_high = math.log(MIN_RATIO), math.log(MAX_RATIO)
    for attempt in range(TRIES):
        area = width * height * (min_area + (max_area - min_area) * draws[2 * attempt])
        ratio = math.exp(log_low + (log_high - log_low) * draws[2 * attempt + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(draws[2 * TRIES] * (width - w + 1))
            top = int(draws[2 * TRIES + 1] * (height - h + 1))
            return Crop(left, top, w, h, mirror)
    w = max(1, min(width, round(height * MAX_RATIO)))
    h = max(1, min(height, round(width / MIN_RATIO)))
    return Crop((width - w) // 2, (height - h) // 2, w, h, mirror)


def crop_choosers(
    image: ImageSpec, augment: Augment, *, seed: int, epoch: int, index_B: npt.NDArray[np.int64]
) -> list[ChooseCrop]:
    """For each record of a batch the rule that picks its crop once its size is known."""
    match augment:
        case PhotoAugment() | LightAugment():
            draws_BK = uniform(seed, epoch, index_B, DRAWS, purpose=Purpose.CROP).tolist()
            return [_chooser(draws_K, augment) for draws_K in draws_BK]
        case SymbolAugment() | NoAugment():
            return [lambda width, height: evaluation_crop(width, height, image.crop)] * len(index_B)
    assert_never(augment)


def _chooser(draws_K: list[float], augment: PhotoAugment | LightAugment) -> ChooseCrop:
    return lambda width, height: random_crop(width, height, draws_K, min_area=augment.min_area, flip=augment.flip)
