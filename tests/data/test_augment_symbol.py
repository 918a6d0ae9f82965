"""Distortion of symbols on the device."""

import numpy as np
import pytest
import torch

from kinsight.data.augment import build_device_augment, symbol_transforms, warp
from kinsight.specs.data import NoAugment, PhotoAugment, SymbolAugment

STILL = {"rotate_deg": 0.0, "scale": 0.0, "shear_deg": 0.0, "translate": 0.0}


def blob(size=33, at=(16, 16)):
    row, column = np.mgrid[:size, :size]
    shade = 255 * np.exp(-((row - at[0]) ** 2 + (column - at[1]) ** 2) / 8)
    return torch.from_numpy(shade.astype(np.uint8))[None, None]


def centre(image):
    weight = image[0, 0].double()
    row, column = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
    return [float((weight * axis).sum() / weight.sum()) for axis in (row, column)]


def warped(image, draws, **settings):
    return warp(image, symbol_transforms(SymbolAugment(**{**STILL, **settings}), np.array([draws])))


MIDDLE = [0.5] * 5


def test_middle_draws_change_nothing():
    image = blob(at=(10, 20))
    got = warped(image, MIDDLE, rotate_deg=30.0, scale=0.3, shear_deg=20.0, translate=0.2)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, image.float(), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("draw", "settings", "wanted"),
    [
        (0, {"rotate_deg": 90.0}, (24, 16)),  # a point right of the middle turns clockwise to below it
        (1, {"scale": 0.25}, (16, 26)),  # ... moves outwards as the picture grows by a quarter
        (3, {"translate": 0.1}, (16, 27.3)),  # ... goes right by a tenth of 33 pixels
        (4, {"translate": 0.1}, (19.3, 24)),
    ],
)
def test_each_distortion_moves_a_point_as_stated(draw, settings, wanted):
    draws = list(MIDDLE)
    draws[draw] = 1.0
    np.testing.assert_allclose(centre(warped(blob(at=(16, 24)), draws, **settings)), wanted, atol=0.2)


def test_shear_leans_the_picture():
    got = warped(blob(at=(24, 16)), [0.5, 0.5, 1.0, 0.5, 0.5], shear_deg=45.0)
    np.testing.assert_allclose(centre(got), (24, 24), atol=0.3)


def test_the_inverse_is_the_inverse():
    settings = SymbolAugment(rotate_deg=40, scale=0.3, shear_deg=25, translate=0.2)
    draws = np.random.default_rng(0).random((50, 5))
    inverse = symbol_transforms(settings, draws).astype(np.float64)
    for draw, matrix in zip(draws, inverse, strict=True):
        angle, size, shear, right, down = 2 * draw - 1
        a, h = np.radians(40 * angle), np.tan(np.radians(25 * shear))
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        forward = turn @ np.array([[1, h], [0, 1]]) * (1 + 0.3 * size)
        point = np.array([0.3, -0.7])
        moved = forward @ point + 2 * 0.2 * np.array([right, down])
        np.testing.assert_allclose(matrix @ [*moved, 1], point, atol=1e-5)


def test_the_border_goes_on():
    paper = torch.full((1, 3, 28, 28), 200, dtype=torch.uint8)
    got = warped(paper, [0.9] * 5, rotate_deg=45.0, scale=0.5, translate=0.3)
    torch.testing.assert_close(got, paper.float(), atol=0.01, rtol=0)


def test_distortions_are_keyed_by_seed_epoch_and_record():
    images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    distort = build_device_augment(SymbolAugment(), seed=3)
    index = np.array([4, 9, 2, 7, 1, 0])
    whole = distort(images, 5, index)
    torch.testing.assert_close(distort(images[2:4], 5, torch.tensor([2, 7])), whole[2:4], atol=0, rtol=0)
    assert not torch.equal(distort(images, 6, index), whole)
    assert not torch.equal(build_device_augment(SymbolAugment(), seed=4)(images, 5, index), whole)
    assert whole.min() >= 0
    assert whole.max() <= 255


def test_other_kinds_leave_the_batch_alone():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for augment in (PhotoAugment(), NoAugment()):
        assert build_device_augment(augment, seed=0)(images, 0, np.arange(2)) is images
