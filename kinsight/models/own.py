"""Backbones that timm lacks: how each is built, the pictures it is made for, and where its weights are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from kinsight.models.conv4 import CONV4_SMALLEST, Conv4
from kinsight.models.inception_v2 import InceptionV2
from kinsight.models.names import ALEXNET, CIFARNET, CONV4, INCEPTION_V1, INCEPTION_V2, LENET
from kinsight.models.small_nets import LARGEST, CifarNet, LeNet
from kinsight.models.torchvision_nets import AlexNetFeatures, InceptionV1

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Own:
    """build: of (colours, picture size). sizes: the smallest and largest it takes, in pixels; the network itself says
    of others. size_bound: its weights fit one picture size only. cfg: arguments of timm's record of weights.
    """

    build: Callable[[int, int], nn.Module]
    cfg: dict[str, Any] | None = None
    sizes: tuple[int, int] = (1, 4096)
    size_bound: bool = False


def _published(weights: str, **more: Any) -> dict[str, Any]:
    from torchvision import models

    return {"url": getattr(models, weights).DEFAULT.url, "input_size": (3, 224, 224), **more}


def _own(size: int, first_conv: str | None = None) -> dict[str, Any]:
    return {"input_size": (3, size, size), "mean": _HALF, "std": _HALF, "first_conv": first_conv}


OWN: dict[str, Own] = {
    CONV4: Own(lambda colours, _: Conv4(colours), sizes=(CONV4_SMALLEST, 4096)),
    LENET: Own(LeNet, _own(28, "conv1"), sizes=(8, LARGEST), size_bound=True),
    CIFARNET: Own(CifarNet, _own(32, "conv1"), sizes=(8, LARGEST), size_bound=True),
    ALEXNET: Own(lambda colours, _: AlexNetFeatures(colours), _published("AlexNet_Weights", first_conv="features.0")),
    INCEPTION_V1: Own(
        lambda colours, _: InceptionV1(colours),
        _published("GoogLeNet_Weights", mean=_HALF, std=_HALF, first_conv="conv1.conv"),
        sizes=(15, 4096),
    ),
    INCEPTION_V2: Own(lambda colours, _: InceptionV2(colours), _own(224)),
}


def build_own(name: str, in_chans: int, image_size: int) -> nn.Module:
    """The network with random weights. Raises ValueError for pictures that it does not take."""
    own = OWN[name]
    least, most = own.sizes
    if not least <= image_size <= most:
        bound = f"at least {least}" if image_size < least else f"at most {most}"
        raise ValueError(f"it needs {bound} pixels")
    return own.build(in_chans, image_size)
