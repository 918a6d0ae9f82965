"""Random numbers by key, and the crops made of them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from kinsight.data.crops import DRAWS, Crop, crop_choosers, evaluation_crop, random_crop
from kinsight.data.decode import decode
from kinsight.data.random import Purpose, uniform, words
from kinsight.specs.data import ImageSpec, LightAugment, NoAugment, PhotoAugment, SymbolAugment


def test_numbers_depend_on_their_keys_alone():
    whole = uniform(3, 7, np.arange(1000), 5)
    np.testing.assert_array_equal(uniform(3, 7, [500, 17], 5), whole[[500, 17]])
    np.testing.assert_array_equal(uniform(3, 7, np.arange(1000), 2), whole[:, :2])
    for other in (uniform(4, 7, np.arange(1000), 5), uniform(3, 8, np.arange(1000), 5),
                  uniform(3, 7, np.arange(1000), 5, purpose=Purpose.SYMBOL)):  # fmt: skip
        assert not (other == whole).any()


def test_numbers_stay_what_they_were():
    # A resumed run of an earlier version must see the same crops.
    assert words(0, 0, [0, 1], 2, purpose=Purpose.CROP).tolist() == [
        [15770879450459868262, 7628868145981228962],
        [7317035775338135026, 4974897725336327468],
    ]


def test_numbers_are_uniform_and_independent():
    u = uniform(0, 0, np.arange(20_000), 4)
    assert (u >= 0).all()
    assert (u < 1).all()
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    neighbours = np.stack([u[:-1, 0], u[1:, 0], u[:-1, 1], uniform(0, 1, np.arange(19_999), 1)[:, 0]])
    assert np.abs(np.corrcoef(neighbours) - np.eye(4)).max() < 0.03


def drawn_crops(width, height, count, **options):
    draws = uniform(0, 0, np.arange(count), DRAWS).tolist()
    return np.array([random_crop(width, height, draw, **{"min_area": 0.08, "flip": True, **options}) for draw in draws])


@pytest.mark.parametrize("size", [(400, 533), (1600, 300), (50, 2000)])
def test_crops_are_distributed_like_torchvisions(size):
    width, height = size
    ours = drawn_crops(width, height, 4000)
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    peer = RandomResizedCrop(1)
    theirs = np.array([peer.get_params(image, list(peer.scale), list(peer.ratio)) for _ in range(4000)])
    theirs = theirs[:, [1, 0, 3, 2]]  # top, left, height, width
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    assert abs(ours[:, 4].mean() - 0.5) < 0.03
    assert (ours[:, 0] + ours[:, 2] <= width).all()
    assert (ours[:, 1] + ours[:, 3] <= height).all()


def test_when_no_box_fits_the_largest_centred_one_is_taken():
    assert set(map(tuple, drawn_crops(4000, 30, 50, min_area=0.9, flip=False))) == {(1980, 0, 40, 30, False)}
    assert set(map(tuple, drawn_crops(30, 4000, 50, min_area=0.9, flip=False))) == {(0, 1980, 30, 40, False)}


def test_light_crops_keep_three_quarters():
    light = LightAugment()
    crops = drawn_crops(400, 400, 2000, min_area=light.min_area, flip=light.flip)
    area = crops[:, 2] * crops[:, 3] / 400**2
    assert area.min() > 0.74
    assert 0.82 < area.mean() < 0.88  # below 0.875: large boxes of odd ratios do not fit


@pytest.mark.parametrize("augment", [LightAugment(min_area=1.0), PhotoAugment(min_area=1.0)])
def test_the_whole_area_is_the_whole_picture(augment):
    """A picture twice as wide as high keeps both its edges: one is red, the other blue."""
    pixels = np.full((100, 200, 3), 120, np.uint8)
    pixels[:, :16], pixels[:, -16:] = (255, 0, 0), (0, 0, 255)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    choosers = choose(augment, 0, range(20))
    assert {tuple(chooser(200, 100)) for chooser in choosers} == {(0, 0, 200, 100, mirror) for mirror in (False, True)}
    for chooser in choosers[:4]:
        seen = decode(out.getvalue(), "x", chooser, size=32, channels=3)
        edges = [seen[:, 16, column].argmax().item() for column in (0, 31)]
        assert edges == ([2, 0] if chooser(200, 100).mirror else [0, 2])


def test_evaluation_crop():
    assert evaluation_crop(400, 600, 0.875) == Crop(25, 125, 350, 350)
    assert evaluation_crop(400, 600, 1.0) == Crop(0, 0, 400, 600)
    assert evaluation_crop(1, 500, 0.5) == Crop(0, 249, 1, 1)


def choose(augment, epoch, index, seed=0):
    return crop_choosers(ImageSpec(), augment, seed=seed, epoch=epoch, index_B=np.array(index))


def test_crops_are_keyed_by_seed_epoch_and_record():
    photo = PhotoAugment()
    alone = choose(photo, 2, [9])[0](400, 300)
    assert choose(photo, 2, [4, 9, 1])[1](400, 300) == alone
    assert len({alone, choose(photo, 3, [9])[0](400, 300), choose(photo, 2, [8])[0](400, 300),
                choose(photo, 2, [9], seed=1)[0](400, 300)}) == 4  # fmt: skip
    for still in (NoAugment(), SymbolAugment()):
        assert choose(still, 5, [9])[0](400, 300) == evaluation_crop(400, 300, 0.875)


@pytest.mark.parametrize("box", [(10, 20, 200, 150), (0, 0, 300, 260), (100, 90, 40, 40), (37, 11, 224, 224)])
def test_the_same_box_gives_torchvisions_picture(box):
    noise = np.random.default_rng(0).integers(0, 256, (65, 75, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((300, 260), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "PNG")
    crop = Crop(*box)
    wanted = np.asarray(resized_crop(image, crop.top, crop.left, crop.height, crop.width, [224, 224])).astype(int)
    for mirror in (False, True):
        got = decode(out.getvalue(), "x", lambda w, h, m=mirror: crop._replace(mirror=m), size=224, channels=3)
        difference = np.abs(got.permute(1, 2, 0).numpy().astype(int) - (wanted[:, ::-1] if mirror else wanted))
        assert difference.max() <= 1  # fixed-point rounding
