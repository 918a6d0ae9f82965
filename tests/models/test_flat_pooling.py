"""Flat pooling keeps places apart, whatever the backbone's layout, and its size follows the image's."""

import pytest
import torch

from kinsight.models import build_backbone, build_network, check_model
from kinsight.specs.data import ImageSpec
from kinsight.specs.evaluate import BackboneSpec
from kinsight.specs.model import CgdNeck, FlatPool, ModelSpec


@pytest.mark.parametrize(
    ("backbone", "size", "features"),
    [
        ("conv4", 32, 64 * 4),
        ("conv4", 28, 64),
        ("resnet18", 64, 512 * 4),
        ("swin_tiny_patch4_window7_224", 224, 768 * 49),
    ],
)
def test_every_position_counts(backbone, size, features):
    image = ImageSpec(image_size=size)
    net = build_backbone(BackboneSpec(backbone=backbone, pretrained=None, pooling=FlatPool()), image=image, seed=0)
    assert net.embedding_dim == features
    assert net.eval()(torch.zeros(2, 3, size, size, dtype=torch.uint8)).shape == (2, features)


def test_moved_ink_moves_the_embedding_only_when_places_count():
    image = ImageSpec(image_size=64, color="gray")
    left = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    left[..., 20:30, 20:30] = 255
    right = left.roll(16, 3)  # by whole cells of the map
    moved = {}
    for kind in ("flat", "max"):
        spec = BackboneSpec.model_validate({"backbone": "conv4", "pretrained": None, "pooling": {"kind": kind}})
        net = build_backbone(spec, image=image, seed=0).eval()
        with torch.inference_mode():
            moved[kind] = float((net(left) - net(right)).abs().max() / net(left).abs().max())
    assert moved["flat"] > 0.1
    assert moved["max"] < moved["flat"] / 5


def test_the_neck_fits_and_cgd_keeps_its_own_pooling():
    image = ImageSpec(image_size=32, color="gray")
    spec = ModelSpec(backbone="conv4", pretrained=None, embedding_dim=16, pooling=FlatPool())
    check_model(spec, image)
    net = build_network(spec, image=image, seed=0)
    assert net(torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).shape == (2, 16)
    cgd = spec.model_copy(update={"neck": CgdNeck()})
    check_model(cgd, image)
    assert build_network(cgd, image=image, seed=0)(torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).shape == (2, 16)
