"""The fourteen networks of TF-Slim: published shapes and numbers of weights, picture sizes, weights from a store."""

import functools
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import nn

from kinsight.errors import SpecError
from kinsight.models import build_network
from kinsight.models.backbones import build, layout_of, native_size, pretrained_cfg, size_note
from kinsight.models.names import resolve
from kinsight.models.weights import file_names
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec

# Name: own picture size; published number of weights; how that number counts: the units of the classifier on top, and
# how many numbers each normalised channel has (TF-Slim's own: 3, without a factor; else 2).
PUBLISHED = {
    "lenet": (28, 3_274_634, 10, 2),  # of one colour
    "cifarnet": (32, 1_756_426, 10, 2),
    "alexnet": (224, 61_100_840, 1000, 2),
    "vgg_16": (224, 138_357_544, 1000, 2),
    "vgg_19": (224, 143_667_240, 1000, 2),
    "inception_v1": (224, 5_607_184, 0, 3),
    "inception_v2": (224, 10_173_112, 0, 3),
    "inception_v3": (299, 21_802_784, 0, 3),
    "inception_v4": (299, 42_679_816, 1000, 2),
    "mobilenet_v1": (224, 4_231_976, 1000, 2),
    "mobilenet_v2": (224, 3_504_872, 1000, 2),
    "resnet_v1_50": (224, 25_557_032, 1000, 2),
    "resnet_v1_101": (224, 44_549_160, 1000, 2),
    "resnet_v1_152": (224, 60_192_808, 1000, 2),
}
WRITTEN_HERE = ["lenet", "cifarnet", "alexnet", "inception_v1", "inception_v2"]


@pytest.mark.parametrize("spelling", PUBLISHED)
def test_number_of_weights(spelling: str) -> None:
    size, published, classes, per_channel = PUBLISHED[spelling]
    name = resolve(spelling)
    assert native_size(name) == size
    colours = 1 if spelling == "lenet" else 3
    with torch.device("meta"):
        net = build(name, in_chans=colours, image_size=size)
    normalised = sum(each.num_features for each in net.modules() if isinstance(each, nn.BatchNorm2d))
    dim = layout_of(name, in_chans=colours, image_size=size).dim
    ours = sum(each.numel() for each in net.parameters()) + (per_channel - 2) * normalised
    assert ours + (dim + 1) * classes == published


def _keep_shape(shapes: dict[str, torch.Size], name: str, _: nn.Module, __: object, output: torch.Tensor) -> None:
    shapes[name] = output.shape[1:]


def test_inception_v2_has_the_published_shapes() -> None:
    shapes: dict[str, torch.Size] = {}
    with torch.device("meta"):
        net = build(resolve("inception_v2"), in_chans=3, image_size=224)
        for name, layer in net.named_children():
            layer.register_forward_hook(functools.partial(_keep_shape, shapes, name))
        net(torch.empty(2, 3, 224, 224))
    assert {name: (shape[1], shape[0]) for name, shape in shapes.items()} == {
        "conv_1a": (112, 64), "pool_2a": (56, 64), "conv_2b": (56, 64), "conv_2c": (56, 192), "pool_3a": (28, 192),
        "mixed_3b": (28, 256), "mixed_3c": (28, 320), "mixed_4a": (14, 576), "mixed_4b": (14, 576),
        "mixed_4c": (14, 576), "mixed_4d": (14, 576), "mixed_4e": (14, 576), "mixed_5a": (7, 1024),
        "mixed_5b": (7, 1024), "mixed_5c": (7, 1024),
    }  # fmt: skip
    assert layout_of(resolve("inception_v2"), in_chans=3, image_size=112).positions == 16


def test_cifarnet_normalises_as_published() -> None:
    """x / (1 + 0.001 / 9 * sum of squares over 9 channels) ^ 0.75, in a loop."""
    net = build(resolve("cifarnet"), in_chans=3, image_size=32)
    x = torch.randn(1, 64, 1, 1, generator=torch.Generator().manual_seed(0)) * 20
    wanted = [
        x[0, c, 0, 0] / (1 + 0.001 / 9 * sum(float(x[0, k, 0, 0]) ** 2 for k in range(max(0, c - 4), min(64, c + 5))))
        ** 0.75
        for c in range(64)
    ]  # fmt: skip
    assert torch.allclose(net.norm(x).flatten(), torch.stack(wanted), rtol=1e-5)  # pyright: ignore[reportCallIssue]


def spec(backbone: str, **more: object) -> ModelSpec:
    return ModelSpec.model_validate({"backbone": backbone, "pretrained": None, "embedding_dim": 8, **more})


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("backbone", WRITTEN_HERE)
def test_those_written_here_learn(backbone: str, color: str) -> None:
    size = min(native_size(resolve(backbone)) or 0, 64)
    net = build_network(spec(backbone), image=ImageSpec.model_validate({"image_size": size, "color": color}), seed=0)
    emb_BD = net.train()(torch.randint(0, 256, (2, net.in_chans, size, size), dtype=torch.uint8))
    emb_BD.square().sum().backward()
    for each in net.tagged_parameters():
        assert each.parameter.grad is not None, each.name
        assert each.parameter.grad.isfinite().all(), each.name


@pytest.mark.parametrize("backbone", WRITTEN_HERE)
def test_layers_are_in_order(backbone: str) -> None:
    """Freezing and rates by layer go from the pixels to the end: the first weight is of layer 0, each has a layer."""
    with torch.device("meta"):
        net = build(resolve(backbone), in_chans=3, image_size=64)
    layers = group_parameters(net, net.group_matcher(), reverse=True)  # pyright: ignore[reportCallIssue]
    numbers = [layers[name] for name, _ in net.named_parameters()]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert "inf" not in map(str, numbers)
    assert len(set(numbers)) >= 3


@pytest.mark.parametrize(("backbone", "size"), [("inception_v4", 64), ("inception_v3", 64), ("lenet", 640)])
def test_picture_sizes_that_cannot_be(backbone: str, size: int) -> None:
    with pytest.raises(SpecError) as caught:
        layout_of(resolve(backbone), in_chans=3, image_size=size)
    assert caught.value.field == "data.image_size"
    near = int((caught.value.remedy or "").removeprefix("set it to ").split(",")[0])
    assert layout_of(resolve(backbone), in_chans=3, image_size=near).dim


def test_another_picture_size_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert size_note(resolve("inception_v4"), 299) is None
    assert size_note(resolve("conv4"), 48) is None
    assert size_note(resolve("inception_v4"), 224) == "inception_v4 was made for images of 299 pixels, and gets 224"
    with caplog.at_level(logging.WARNING, logger="kinsight.models"):
        build_network(spec("lenet"), image=ImageSpec(image_size=32), seed=0)
    assert "lenet was made for images of 28 pixels, and gets 32: it then has 4.2 million weights" in caplog.text


@pytest.mark.parametrize("backbone", ["lenet", "cifarnet", "inception_v1", "inception_v2", "mobilenet_v1"])
def test_weights_from_the_store(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a classifier on top, by the canonical name: what is loaded is what is computed with."""
    size = min(native_size(resolve(backbone)) or 0, 64)
    torch.manual_seed(7)
    made = build(resolve(backbone), in_chans=3, image_size=size).eval()
    extra = {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}
    save_file({**made.state_dict(), **extra}, tmp_path / f"{resolve(backbone).name}.safetensors")
    monkeypatch.setenv("KINSIGHT_WEIGHTS", str(tmp_path))
    net = build_network(
        spec(backbone, pretrained="default"), image=ImageSpec(image_size=size), seed=0, asked=True
    ).eval()
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, there = net.backbone(x), made(x)
    # Another layout of memory, other orders of summation.
    assert (here - there).abs().max() < 1e-4 * there.abs().max()


def test_every_name_has_its_file() -> None:
    """By the canonical name, as timm has it where it has the network; before it the name of the default weights."""
    canonical = {spelling: resolve(spelling).name for spelling in PUBLISHED}
    for spelling, plain in canonical.items():
        names = file_names(resolve(spelling), pretrained_cfg(resolve(spelling)))
        assert names[-1] == f"{plain}.safetensors"
        assert all(name.startswith(f"{plain}.") for name in names)
    assert {each for each in canonical.values() if each not in PUBLISHED} == {
        "vgg16", "vgg19", "mobilenetv1_100", "mobilenetv2_100", "resnet50", "resnet101", "resnet152",
    }  # fmt: skip


def test_weights_of_another_picture_size_do_not_fit(tmp_path: Path) -> None:
    save_file(build(resolve("lenet"), in_chans=3, image_size=28).state_dict(), tmp_path / "lenet.safetensors")
    with pytest.raises(ValueError, match=r"fc3.weight: \(1024, 4096\) here, \(1024, 3136\) in the file"):
        build_network(
            spec("lenet", pretrained=str(tmp_path / "lenet.safetensors")), image=ImageSpec(image_size=32), seed=0
        )


def test_without_published_weights_asked_is_an_error() -> None:
    with pytest.raises(SpecError, match="lenet has no published weights"):
        build_network(spec("lenet", pretrained="default"), image=ImageSpec(image_size=28), seed=0, asked=True)
