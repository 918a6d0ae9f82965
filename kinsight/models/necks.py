"""From features to the embedding. Every neck computes in float32: it is small, and its output is what is compared."""

from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinsight.errors import SpecError
from kinsight.models.backbones import FeatureMap
from kinsight.models.pooling import AvgPooling, GemPooling, MaxPooling
from kinsight.specs.model import BNNeck, CgdNeck, LinearNeck, Neck, NoNeck

Branch = Literal["avg", "gem", "max"]


class Linear(nn.Module):
    """One linear layer with bias, from pooled features [B, dim] to [B, embedding_dim]."""

    def __init__(self, dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, embedding_dim)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        return self.fc(pooled_BD)


class NormLinearDropout(nn.Module):
    """Batch normalisation, linear layer without bias, dropout; from pooled features."""

    def __init__(self, dim: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.fc = nn.Linear(dim, embedding_dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        return self.dropout(self.fc(self.norm(pooled_BD)))


class CombinedDescriptors(nn.Module):
    """Combined global descriptors: per branch pooling, linear layer without bias, L2 norm; concatenated.

    Jun et al. 2019 (arXiv:1903.10663), section 3.1, without normalising the concatenation: its norm is the square root
    of the number of branches. Takes the feature map; GeM's exponent is 3, fixed.
    """

    def __init__(self, dim: int, embedding_dim: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        assert embedding_dim % len(branches) == 0, (embedding_dim, branches)
        self.poolings = nn.ModuleList(_branch_pooling(branch) for branch in branches)
        self.fcs = nn.ModuleList(nn.Linear(dim, embedding_dim // len(branches), bias=False) for _ in branches)

    def forward(self, features: FeatureMap) -> Tensor:
        pairs = zip(self.poolings, self.fcs, strict=True)
        return torch.cat([F.normalize(fc(pooling(features)), dim=1) for pooling, fc in pairs], dim=1)


class AuxiliaryBranch(nn.Module):
    """Average pooling, then `NormLinearDropout`: what a second loss term sees beside the combined descriptors."""

    def __init__(self, dim: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.pooling = AvgPooling()
        self.neck = NormLinearDropout(dim, embedding_dim, dropout)

    def forward(self, features: FeatureMap) -> Tensor:
        return self.neck(self.pooling(features))


def build_neck(spec: Neck, *, dim: int, embedding_dim: int) -> nn.Module:
    """The neck that `spec` asks for; cgd takes a FeatureMap, the others pooled features.

    Raises SpecError where cgd's branches do not divide the embedding, or, without a neck, it has another length than
    the features.
    """
    match spec:
        case LinearNeck():
            return Linear(dim, embedding_dim)
        case BNNeck():
            return NormLinearDropout(dim, embedding_dim, spec.dropout)
        case CgdNeck():
            if embedding_dim % len(spec.branches):
                raise SpecError(
                    "spec.embedding-dim",
                    f"{embedding_dim}: must divide by {len(spec.branches)}, the branches of the cgd neck",
                    field="model.embedding_dim",
                    remedy=f"use {_next_multiple(embedding_dim, len(spec.branches))}",
                )
            return CombinedDescriptors(dim, embedding_dim, tuple(spec.branches))
        case NoNeck():
            if embedding_dim != dim:
                raise SpecError(
                    "spec.embedding-dim",
                    f"{embedding_dim}: without a neck the embedding is the {dim} pooled features",
                    field="model.embedding_dim",
                    remedy=f"set it to {dim}, or choose a neck, such as linear",
                )
            return nn.Identity()
        case _:
            assert_never(spec)


def _branch_pooling(branch: Branch) -> nn.Module:
    match branch:
        case "avg":
            return AvgPooling()
        case "max":
            return MaxPooling()
        case "gem":
            return GemPooling(3.0, learned=False)
        case _:
            assert_never(branch)


def _next_multiple(value: int, of: int) -> int:
    return -(-value // of) * of
