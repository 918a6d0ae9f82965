"""Backbones: built by timm or, where it lacks them, by us; known by what they give before any weight exists."""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from kinsight.errors import SpecError
from kinsight.models.names import BackboneName
from kinsight.models.own import OWN, build_own

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Parts that see only the class token: useless, and without gradient, once patches are pooled instead.
_CLASS_TOKEN_ONLY = ("cls_token", "blocks_token_only")
_CLASS_ATTENTION = "cls_attn_blocks"


class FeatureMap(NamedTuple):
    """What a backbone gives for a batch.

    map_BDHW: features by position; patch tokens count as a column of height L and width 1.
    token_BD: the class token, where the network has one.
    """

    map_BDHW: Tensor
    token_BD: Tensor | None


@dataclass(frozen=True)
class FeatureLayout:
    """How a backbone's raw output is to be read. dim: features per position, D. positions: H * W, of images of the size
    it was asked for. NC: it pools by itself.
    """

    kind: Literal["NCHW", "NHWC", "NLC", "NC"]
    dim: int
    prefix_tokens: int = 0
    positions: int = 1

    @property
    def has_token(self) -> bool:
        return self.prefix_tokens > 0

    def read(self, output: Tensor) -> FeatureMap:
        """Views of the raw output, nothing copied."""
        match self.kind:
            case "NCHW":
                return FeatureMap(output, None)
            case "NHWC":
                return FeatureMap(output.permute(0, 3, 1, 2), None)
            case "NLC":
                patches = output[:, self.prefix_tokens :].transpose(1, 2).unsqueeze(-1)
                return FeatureMap(patches, output[:, 0] if self.has_token else None)
            case "NC":
                return FeatureMap(output[:, :, None, None], None)


def build(name: BackboneName, *, in_chans: int, image_size: int) -> nn.Module:
    """The backbone with random weights from torch's generator, without pooling and classifier.

    Raises SpecError if the network cannot take images of that size, with the nearest size that it can.
    """
    layout = layout_of(name, in_chans=in_chans, image_size=image_size)
    return _construct(name, in_chans, image_size, pooled=layout.kind == "NC")


@functools.lru_cache(maxsize=256)
def layout_of(name: BackboneName, *, in_chans: int, image_size: int) -> FeatureLayout:
    """What the backbone gives for images of `image_size`, found on the meta device: no weight is made.

    Raises SpecError as `build` does.
    """
    try:
        return _probe(name, in_chans, image_size, pooled=False)
    except Exception as error:
        # timm's constructors and forward passes raise whatever they like.
        try:
            return _probe(name, in_chans, image_size, pooled=True)
        except Exception:
            raise _unfit(name, in_chans, image_size, error) from error


def default_normalisation(name: BackboneName) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per colour channel, in 0..1, that the published weights expect; ImageNet's else."""
    cfg = pretrained_cfg(name)
    if cfg is None or len(cfg.mean) != 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(cfg.mean), tuple(cfg.std)


def pretrained_cfg(name: BackboneName) -> Any | None:
    """timm's record of the published weights (place, licence, normalisation, picture size), made by us for networks of
    ours that have any of it; or None.
    """
    import timm.models

    if name.is_ours:
        cfg = OWN[name.name].cfg
        return None if cfg is None else timm.models.PretrainedCfg(**cfg)
    if not name.in_timm:
        return None
    return timm.models.get_pretrained_cfg(cast(str, name.architecture))


def native_size(name: BackboneName) -> int | None:
    """Side of the pictures that the network was published for, in pixels; None where nobody says."""
    cfg = pretrained_cfg(name)
    return None if cfg is None else cfg.input_size[-1]


def size_note(name: BackboneName, image_size: int) -> str | None:
    """What to know of a network at another picture size than its own; None at that size."""
    native = native_size(name)
    if native is None or native == image_size:
        return None
    note = f"{name.asked} was made for images of {native} pixels, and gets {image_size}"
    if name.is_ours and OWN[name.name].size_bound:
        weights = sum(each.numel() for each in _on_meta(name, 3, image_size).parameters())
        return f"{note}: it then has {weights / 1e6:,.1f} million weights, and takes no others' images or weights"
    return note


def freeze_unused(backbone: nn.Module) -> None:
    """Take class-attention parts out of training, for a network whose patch tokens are pooled.

    XCiT and CaiT add their class token at the end, so that nothing of it reaches the patches.
    """
    blocks = getattr(backbone, _CLASS_ATTENTION, None)
    late = blocks is not None or hasattr(backbone, "blocks_token_only")
    if not late:
        return
    for key, parameter in backbone.named_parameters():
        if key.split(".")[0] in _CLASS_TOKEN_ONLY:
            parameter.requires_grad_(False)
    for block in blocks if isinstance(blocks, nn.ModuleList) else ():
        for part in ("attn", "mlp", "gamma2", *(() if getattr(block, "tokens_norm", True) else ("norm2",))):
            if isinstance(member := getattr(block, part), nn.Module | nn.Parameter):
                member.requires_grad_(False)


def _construct(name: BackboneName, in_chans: int, image_size: int, *, pooled: bool) -> nn.Module:
    if name.architecture is None:
        return build_own(name.name, in_chans, image_size)
    import timm

    options: dict[str, Any] = dict(name.options)
    cfg = timm.models.get_pretrained_cfg(name.architecture)
    # Networks with learned positions or windows must know the size; the others refuse the option.
    if cfg is not None and cfg.fixed_input_size and image_size != cfg.input_size[-1]:
        options["img_size"] = image_size
    if not pooled:
        options["global_pool"] = ""
    return timm.create_model(name.architecture, pretrained=False, num_classes=0, in_chans=in_chans, **options)


def _probe(name: BackboneName, in_chans: int, image_size: int, *, pooled: bool) -> FeatureLayout:
    with torch.device("meta"), torch.no_grad():
        net = _construct(name, in_chans, image_size, pooled=pooled).eval()
        _check_patches(net, image_size)
        output = net(torch.empty(1, in_chans, image_size, image_size))
    if not isinstance(output, Tensor) or output.ndim not in ((2,) if pooled else (3, 4)):
        raise ValueError("it gives neither a feature map nor one vector per image")
    return FeatureLayout("NC", output.shape[1]) if pooled else _read_layout(net, output)


def _on_meta(name: BackboneName, in_chans: int, image_size: int) -> nn.Module:
    with torch.device("meta"):
        return _construct(name, in_chans, image_size, pooled=True)


def _check_patches(net: nn.Module, image_size: int) -> None:
    """A remainder would be cut off without a word, save at the size that the network is published for."""
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    own = (getattr(net, "pretrained_cfg", None) or {}).get("input_size", (0,))[-1]
    if isinstance(side, int) and image_size % side and image_size != own:
        raise ValueError(f"{image_size} does not divide into patches of {side} pixels")


def _read_layout(net: nn.Module, output: Tensor) -> FeatureLayout:
    if output.numel() == 0:
        raise ValueError("nothing is left of so small an image")
    if output.ndim == 4:
        if str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC"):
            return FeatureLayout("NHWC", output.shape[3], positions=output.shape[1] * output.shape[2])
        return FeatureLayout("NCHW", output.shape[1], positions=output.shape[2] * output.shape[3])
    prefix = getattr(net, "num_prefix_tokens", None)
    if prefix is None:  # a square of patches, or a square and a class token
        prefix = 0 if math.isqrt(output.shape[1]) ** 2 == output.shape[1] else 1
    return FeatureLayout("NLC", output.shape[2], prefix, output.shape[1] - prefix)


def _unfit(name: BackboneName, in_chans: int, image_size: int, error: Exception) -> SpecError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    near = _nearest_size(name, in_chans, image_size)
    if near is None:
        return SpecError(
            "spec.backbone-unusable",
            f"{name.name} cannot serve as a backbone: {reason}",
            field="model.backbone",
            remedy="choose another backbone",
        )
    return SpecError(
        "spec.image-size",
        f"{name.name} cannot take images of {image_size} pixels: {reason}",
        field="data.image_size",
        remedy=f"set it to {near}, or choose a backbone without this limit (resnet50)",
    )


def _nearest_size(name: BackboneName, in_chans: int, image_size: int) -> int | None:
    """The nearest multiple of 16, 14 or 32 pixels that the network takes, or its own size; None if nothing works."""
    cfg = pretrained_cfg(name)
    own = cfg.input_size[-1] if cfg is not None else 224
    around = {step * max(1, image_size // step + more) for step in (14, 16, 32) for more in (0, 1)}
    for size in [*sorted(around - {image_size}, key=lambda size: (abs(size - image_size), size)), own]:
        for pooled in (False, True):
            try:
                _probe(name, in_chans, size, pooled=pooled)
            except Exception:
                continue
            return size
    return None
