"""From a feature map to one vector per image, in float32 whatever the precision of the map."""

from typing import assert_never

import torch
from torch import Tensor, nn

from kinsight.errors import SpecError
from kinsight.models.backbones import FeatureLayout, FeatureMap
from kinsight.specs.model import AvgPool, FlatPool, GemPool, MaxPool, Pooling, TokenPool


class AvgPooling(nn.Module):
    """Mean over positions."""

    def forward(self, features: FeatureMap) -> Tensor:
        return features.map_BDHW.mean((2, 3), dtype=torch.float32)


class MaxPooling(nn.Module):
    """Maximum over positions."""

    def forward(self, features: FeatureMap) -> Tensor:
        return features.map_BDHW.amax((2, 3)).float()


class GemPooling(nn.Module):
    """Generalised mean over positions, mean(max(x, eps)^p)^(1/p). Radenovic et al. 2018, eq. 3.

    p: exponent to start from, at least 1. learned: whether it moves in training (never below 1).
    """

    def __init__(self, p: float = 3.0, *, learned: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        exponent = torch.tensor(float(p))
        if learned:
            self.p = nn.Parameter(exponent)
        else:
            self.register_buffer("p", exponent, persistent=False)

    def forward(self, features: FeatureMap) -> Tensor:
        x = features.map_BDHW.float().clamp(min=self.eps)
        # The generalised mean is homogeneous: dividing by the largest value keeps any power within float32.
        largest = x.detach().amax((2, 3), keepdim=True)
        p = self.p.clamp(min=1.0)
        return (x / largest).pow(p).mean((2, 3)).pow(1.0 / p) * largest.flatten(1)


class FlatPooling(nn.Module):
    """The whole map as one vector of D * H * W features, channel by channel."""

    def forward(self, features: FeatureMap) -> Tensor:
        return features.map_BDHW.flatten(1).float()


class TokenPooling(nn.Module):
    """The class token."""

    def forward(self, features: FeatureMap) -> Tensor:
        assert features.token_BD is not None
        return features.token_BD.float()


def pooled_dim(spec: Pooling, layout: FeatureLayout) -> int:
    """Features per image after pooling."""
    return layout.dim * layout.positions if isinstance(spec, FlatPool) else layout.dim


def build_pooling(spec: Pooling, layout: FeatureLayout, backbone: str) -> nn.Module:
    """The pooling that `spec` asks for.

    Raises SpecError for token pooling of a backbone without class token, and for any but avg (which then changes
    nothing) of one that pools by itself.
    """
    if layout.kind == "NC" and not isinstance(spec, AvgPool):
        raise SpecError(
            "spec.pooling",
            f"{spec.kind}: has no effect, {backbone} pools its features itself",
            field="model.pooling",
            remedy="leave it out, or choose another backbone",
        )
    match spec:
        case AvgPool():
            return AvgPooling()
        case MaxPool():
            return MaxPooling()
        case GemPool():
            return GemPooling(spec.p)
        case FlatPool():
            return FlatPooling()
        case TokenPool():
            if not layout.has_token:
                raise SpecError(
                    "spec.pooling",
                    f"token: {backbone} has no class token",
                    field="model.pooling",
                    remedy="use avg, max or gem; only some transformers (vit_*, xcit_*) have a class token",
                )
            return TokenPooling()
        case _:
            assert_never(spec)
