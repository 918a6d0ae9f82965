"""Inception v2: the batch-normalised Inception, with two 3x3 convolutions in place of each 5x5.

Ioffe & Szegedy 2015 (arXiv:1502.03167), figure 5, in the form of TF-Slim: the first convolution is separable, and
padding falls on the right and below, so that weights of that network compute the same here.
"""

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn

# Mixed layer: channels of its branches. 1x1 | 1x1, 3x3 | 1x1, 3x3, 3x3 | what is pooled, 1x1.
_MIXED: dict[str, tuple[int, tuple[int, int], tuple[int, int], tuple[str, int]]] = {
    "mixed_3b": (64, (64, 64), (64, 96), ("avg", 32)),
    "mixed_3c": (64, (64, 96), (64, 96), ("avg", 64)),
    "mixed_4b": (224, (64, 96), (96, 128), ("avg", 128)),
    "mixed_4c": (192, (96, 128), (96, 128), ("avg", 128)),
    "mixed_4d": (160, (128, 160), (128, 160), ("avg", 96)),
    "mixed_4e": (96, (128, 192), (160, 192), ("avg", 96)),
    "mixed_5b": (352, (192, 320), (160, 224), ("avg", 128)),
    "mixed_5c": (352, (192, 320), (192, 224), ("max", 128)),
}
# Those that halve the picture: 1x1, 3x3 | 1x1, 3x3, 3x3; the third branch is pooling alone.
_HALVING: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "mixed_4a": ((128, 160), (64, 96)),
    "mixed_5a": ((128, 192), (192, 256)),
}
_EPS = 1e-3


class InceptionV2(nn.Sequential):
    """From [B, in_chans, H, W] to [B, 1024, H/32, W/32], rounded up."""

    def __init__(self, in_chans: int = 3) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv_1a"] = _SeparableConv(in_chans, 64)
        layers["pool_2a"] = MaxPool2dSame(3, 2)
        layers["conv_2b"] = _ConvNorm(64, 64, 1)
        layers["conv_2c"] = _ConvNorm(64, 192, 3)
        layers["pool_3a"] = MaxPool2dSame(3, 2)
        dim = 192
        for name in sorted([*_MIXED, *_HALVING]):
            layer = _mixed(dim, *_MIXED[name]) if name in _MIXED else _halving(dim, *_HALVING[name])
            layers[name], dim = layer, layer.dim
        super().__init__(layers)

    def group_matcher(self, coarse: bool = False) -> dict[str, list[tuple[str, tuple[int]]]]:
        """Which parameters make a layer, as timm's networks say it."""
        return {
            "stem": [(rf"^conv_(\d){letter}", (place,)) for place, letter in enumerate("abc")],
            "mixed": [(rf"^mixed_(\d){letter}", (place,)) for place, letter in enumerate("abcde")],
        }


class _Branches(nn.Module):
    """Several ways through a layer, side by side. dim: channels of all."""

    def __init__(self, dim: int, *branches: nn.Module) -> None:
        super().__init__()
        self.dim = dim
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _mixed(dim: int, one: int, three: tuple[int, int], twice: tuple[int, int], pool: tuple[str, int]) -> _Branches:
    kind, pooled = pool
    pooling = nn.AvgPool2d(3, 1, 1, count_include_pad=False) if kind == "avg" else nn.MaxPool2d(3, 1, 1)
    return _Branches(
        one + three[1] + twice[1] + pooled,
        _ConvNorm(dim, one, 1),
        nn.Sequential(_ConvNorm(dim, three[0], 1), _ConvNorm(three[0], three[1], 3)),
        nn.Sequential(_ConvNorm(dim, twice[0], 1), _ConvNorm(twice[0], twice[1], 3), _ConvNorm(twice[1], twice[1], 3)),
        nn.Sequential(pooling, _ConvNorm(dim, pooled, 1)),
    )


def _halving(dim: int, three: tuple[int, int], twice: tuple[int, int]) -> _Branches:
    return _Branches(
        three[1] + twice[1] + dim,
        nn.Sequential(_ConvNorm(dim, three[0], 1), _ConvNorm(three[0], three[1], 3, stride=2)),
        nn.Sequential(
            _ConvNorm(dim, twice[0], 1), _ConvNorm(twice[0], twice[1], 3), _ConvNorm(twice[1], twice[1], 3, stride=2)
        ),
        MaxPool2dSame(3, 2),
    )


def _halving_conv(before: int, after: int, side: int, groups: int = 1) -> nn.Conv2d:
    conv: Any = Conv2dSame(before, after, side, 2, groups=groups, bias=False)
    return conv


class _ConvNorm(nn.Module):
    def __init__(self, before: int, after: int, side: int, stride: int = 1) -> None:
        super().__init__()
        # At stride 1 an odd side pads both ends alike, which torch does by itself.
        self.conv = (
            nn.Conv2d(before, after, side, padding=side // 2, bias=False)
            if stride == 1
            else _halving_conv(before, after, side)
        )
        self.norm = nn.BatchNorm2d(after, eps=_EPS)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


class _SeparableConv(nn.Module):
    """Eight 7x7 filters for each colour, then 1x1 with bias: the one layer that was published without normalisation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.depthwise = _halving_conv(before, before * 8, 7, groups=before)
        self.conv = nn.Conv2d(before * 8, after, 1)
        nn.init.kaiming_normal_(self.depthwise.weight, nonlinearity="linear")
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(self.depthwise(x)), inplace=True)
