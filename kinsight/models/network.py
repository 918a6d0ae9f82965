"""The network: pixels in, embeddings out. Normalisation, backbone, pooling and neck in one module."""

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from kinsight.models.backbones import FeatureLayout, FeatureMap
from kinsight.models.weights import RANDOM, Origin

Part = Literal["backbone", "pooling", "neck", "aux"]


class TaggedParameter(NamedTuple):
    """A trained parameter, the part it belongs to, and whether weight decay suits it (not biases, norms, tables).

    above: backbone layers between this one and the end of the backbone; 0 for its last layer and for other parts.
    """

    name: str
    parameter: nn.Parameter
    part: Part
    decay: bool
    above: int


class EmbeddingNet(nn.Module):
    """From images to embeddings; `embedding_dim` numbers per image, not normalised.

    pooling: None where the neck pools the feature map itself (cgd). aux: second branch, for training only.
    mean, std: per channel, in 0..1. origin: where the backbone's weights came from.
    """

    def __init__(
        self,
        backbone: nn.Module,
        layout: FeatureLayout,
        pooling: nn.Module | None,
        neck: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        embedding_dim: int,
        aux: nn.Module | None = None,
        origin: Origin = RANDOM,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.neck = neck
        self.aux = aux
        self.layout = layout
        self.embedding_dim = embedding_dim
        self.origin = origin
        self._factor: Tensor
        self._offset: Tensor
        self.set_normalisation(mean, std)

    @property
    def in_chans(self) -> int:
        return len(self.mean)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Subtract `mean` and divide by `std`, per channel in 0..1, from now on. For a network still on the CPU."""
        self.mean, self.std = tuple(mean), tuple(std)
        # (x / 255 - mean) / std as one product and one sum; made from the settings, so not part of the weights.
        self.register_buffer("_factor", 1.0 / (255.0 * torch.tensor(self.std)), persistent=False)
        self.register_buffer("_offset", -torch.tensor(self.mean) / torch.tensor(self.std), persistent=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings [B, embedding_dim], float32. images_BCHW: uint8, or float in 0..255."""
        features = self.features(images_BCHW)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            return self._embed(features)

    def forward_with_aux(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings, and the auxiliary branch's [B, embedding_dim]; without that branch, the embeddings again."""
        features = self.features(images_BCHW)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            emb_BD = self._embed(features)
            return emb_BD, emb_BD if self.aux is None else self.aux(features)

    def features(self, images_BCHW: Tensor) -> FeatureMap:
        """The backbone's feature map of uint8 or 0..255 images, in the precision that autocast gives."""
        return self.layout.read(self.backbone(self._normalise(images_BCHW)))

    def parts(self) -> Iterator[tuple[Part, nn.Module]]:
        """The named parts that exist."""
        modules: dict[Part, nn.Module | None] = {
            "backbone": self.backbone,
            "pooling": self.pooling,
            "neck": self.neck,
            "aux": self.aux,
        }
        return ((part, module) for part, module in modules.items() if module is not None)

    def tagged_parameters(self) -> Iterator[TaggedParameter]:
        """Trained parameters with what an optimizer wants to know of them."""
        exempt = getattr(self.backbone, "no_weight_decay", set)()
        layers = self.backbone_layers()
        last = max(layers.values())
        for part, module in self.parts():
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    special = part == "backbone" and any(fnmatch.fnmatch(name, pattern) for pattern in exempt)
                    above = last - layers[name] if part == "backbone" else 0
                    yield TaggedParameter(f"{part}.{name}", parameter, part, parameter.ndim > 1 and not special, above)

    def backbone_layers(self) -> dict[str, int]:
        """The layer of each of the backbone's parameters, from 0 at the pixels: blocks as timm groups them."""
        matcher = self.backbone.group_matcher(coarse=False)  # pyright: ignore[reportCallIssue]  timm's and our nets
        return group_parameters(self.backbone, matcher, reverse=True)

    def bundled_state(self) -> dict[str, Tensor]:
        """What a bundle keeps: weights and running statistics of backbone, pooling and neck."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("aux.")}

    def _normalise(self, images_BCHW: Tensor) -> Tensor:
        # Strides of channels_last made by hand: for one channel torch sees no difference and would keep its own,
        # after which every later layer runs in the slower layout.
        pixels_BHWC = images_BCHW.permute(0, 2, 3, 1).contiguous().float()
        # One number per value of a pixel row: broadcasting one per channel takes three times as long.
        width = pixels_BHWC.shape[2]
        factor, offset = self._factor.repeat(width), self._offset.repeat(width)
        return torch.addcmul(offset, pixels_BHWC.flatten(2), factor).view_as(pixels_BHWC).permute(0, 3, 1, 2)

    def _embed(self, features: FeatureMap) -> Tensor:
        return self.neck(features if self.pooling is None else self.pooling(features))
