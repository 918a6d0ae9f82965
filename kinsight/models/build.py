"""From specs to networks: everything that can be wrong is found before a weight is made."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from kinsight.errors import SpecError
from kinsight.models import artefact, backbones, names, necks, pooling
from kinsight.models.backbones import FeatureLayout
from kinsight.models.names import BackboneName
from kinsight.models.network import EmbeddingNet
from kinsight.models.state import State, load_state
from kinsight.models.weights import Origin, first_conv_names, load_first_weights
from kinsight.specs.data import ImageSpec
from kinsight.specs.evaluate import BackboneSpec
from kinsight.specs.model import BNNeck, CgdNeck, ModelSpec, Pooling, TokenPool

_log = logging.getLogger("kinsight.models")


class Initial(NamedTuple):
    """Weights to start from: what `EmbeddingNet.state_dict` gives, and the backbone they are of.

    mean, std: of the normalisation they were trained with; empty where that is the backbone's own.
    """

    address: str
    backbone: str
    state: State
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    licence: str | None = None


def build_network(
    spec: ModelSpec,
    *,
    image: ImageSpec,
    seed: int,
    with_aux: bool = False,
    asked: bool = False,
    fill: bool = True,
    initial: Initial | None = None,
) -> EmbeddingNet:
    """The network of a training, on the CPU; its weights are a function of `spec` and `seed` alone.

    with_aux: add the auxiliary branch that the cgd neck has in training; other necks have none.
    asked: whether the user set `pretrained`: then a backbone without published weights is an error, else a warning.
    fill: False skips `pretrained` and `init_from`, for a network about to be filled. initial: what `init_from` holds,
    where that is no bundle.
    Raises SpecError for a wrong backbone_dim, pooling or image size before any weight is made; and, where weights are
    read, DataError and StorageError.
    """
    name, layout = _plan(spec.backbone, image)
    _check(spec, layout, asked)
    if fill and name.is_ours and (note := backbones.size_note(name, image.image_size)):
        _log.warning(note)
    own_pooling = isinstance(spec.neck, CgdNeck)
    with _seeded(seed):
        pool = None if own_pooling else pooling.build_pooling(spec.pooling, layout, name.name)
        neck = necks.build_neck(spec.neck, dim=_neck_dim(spec, layout), embedding_dim=spec.embedding_dim)
        backbone = _backbone(name, image, None if own_pooling else spec.pooling)
        net = _assemble(name, layout, image, backbone, pool, neck, spec.embedding_dim)
        if with_aux and own_pooling:
            net.aux = necks.AuxiliaryBranch(layout.dim, spec.embedding_dim, BNNeck().dropout)
    if fill and spec.init_from is not None:
        _fill_from(net, name, initial or _initial(spec.init_from))
    elif fill:
        net.origin = load_first_weights(net.backbone, name, spec.pretrained, asked=asked, in_chans=net.in_chans)
    return _channels_last(net)


def build_backbone(spec: BackboneSpec, *, image: ImageSpec, seed: int, asked: bool = False) -> EmbeddingNet:
    """A backbone alone: its pooled features are the embedding. Arguments and errors as of `build_network`."""
    name, layout = _plan(spec.backbone, image)
    with _seeded(seed):
        pool = pooling.build_pooling(spec.pooling, layout, name.name)
        backbone = _backbone(name, image, spec.pooling)
        dim = pooling.pooled_dim(spec.pooling, layout)
        net = _assemble(name, layout, image, backbone, pool, nn.Identity(), dim)
    net.origin = load_first_weights(net.backbone, name, spec.pretrained, asked=asked, in_chans=net.in_chans)
    return _channels_last(net)


def backbone_dim(backbone: str, image: ImageSpec) -> int:
    """Features that a backbone gives, found without making its weights. Raises SpecError as `build_network`."""
    return _plan(backbone, image)[1].dim


def natural_embedding_dim(spec: ModelSpec, image: ImageSpec) -> int:
    """Length of the pooled features, which are the embedding without a neck. Raises SpecError as `build_network`."""
    return pooling.pooled_dim(spec.pooling, _plan(spec.backbone, image)[1])


def check_model(spec: ModelSpec, image: ImageSpec, *, asked: bool = False) -> None:
    """What `build_network` checks before it makes weights, for a look ahead of any work. Raises SpecError."""
    name, layout = _plan(spec.backbone, image)
    _check(spec, layout, asked)
    if not isinstance(spec.neck, CgdNeck):
        pooling.build_pooling(spec.pooling, layout, name.name)
    with torch.device("meta"):
        necks.build_neck(spec.neck, dim=_neck_dim(spec, layout), embedding_dim=spec.embedding_dim)


def _neck_dim(spec: ModelSpec, layout: FeatureLayout) -> int:
    """Features that the neck gets: per position for cgd, which pools by itself."""
    return layout.dim if isinstance(spec.neck, CgdNeck) else pooling.pooled_dim(spec.pooling, layout)


def _plan(backbone: str, image: ImageSpec) -> tuple[BackboneName, FeatureLayout]:
    name = names.resolve(backbone)
    return name, backbones.layout_of(name, in_chans=_channels(image), image_size=image.image_size)


def _channels(image: ImageSpec) -> int:
    return 1 if image.color == "gray" else 3


def _check(spec: ModelSpec, layout: FeatureLayout, asked: bool) -> None:
    if spec.backbone_dim is not None and spec.backbone_dim != layout.dim:
        raise SpecError(
            "spec.backbone-dim",
            f"{spec.backbone_dim}: {spec.backbone} gives {layout.dim} features",
            field="model.backbone_dim",
            remedy=f"set it to {layout.dim}, or leave it out",
        )
    if layout.kind == "NC" and isinstance(spec.neck, CgdNeck):
        raise SpecError(
            "spec.neck",
            f"cgd: {spec.backbone} pools its features itself, so that its branches would all see the same",
            field="model.neck",
            remedy="use the linear or bnneck neck, or another backbone",
        )
    if asked and spec.init_from is not None and spec.pretrained is not None:
        raise SpecError(
            "spec.no-effect",
            "has no effect with model.init_from, whose weights replace it",
            field="model.pretrained",
            remedy="leave one of the two out",
        )


def _backbone(name: BackboneName, image: ImageSpec, pool: Pooling | None) -> nn.Module:
    backbone = backbones.build(name, in_chans=_channels(image), image_size=image.image_size)
    if not isinstance(pool, TokenPool):
        backbones.freeze_unused(backbone)
    return backbone


def _assemble(
    name: BackboneName,
    layout: FeatureLayout,
    image: ImageSpec,
    backbone: nn.Module,
    pool: nn.Module | None,
    neck: nn.Module,
    embedding_dim: int,
) -> EmbeddingNet:
    mean, std = backbones.default_normalisation(name)
    if _channels(image) == 1:
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    return EmbeddingNet(backbone, layout, pool, neck, mean=mean, std=std, embedding_dim=embedding_dim)


def _channels_last(net: EmbeddingNet) -> EmbeddingNet:
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  absent from torch's stubs


def _initial(address: str) -> Initial:
    header, state = artefact.read_artefact(address)
    backbone = header.model_spec().backbone
    return Initial(address, backbone, state, header.mean, header.std, header.weights_licence)


def _fill_from(net: EmbeddingNet, name: BackboneName, initial: Initial) -> None:
    """Take backbone, pooling and neck; the latter two only where they fit."""
    theirs = names.resolve(initial.backbone).name.partition(".")[0]
    ours = name.name.partition(".")[0]
    if theirs != ours:
        raise SpecError(
            "spec.init-from",
            f"{initial.address}: holds a {theirs}, model.backbone is {name.asked}",
            field="model.init_from",
            remedy=f"set model.backbone to {theirs}, or choose another bundle",
        )
    loaded = load_state(
        net.backbone,
        _below(initial.state, "backbone."),
        source=initial.address,
        first_conv=first_conv_names(name) if net.in_chans == 1 else (),
        field="model.init_from",
    )
    notes = [*loaded.notes, *_fill_neck(net, initial.state, initial.address)]
    if initial.mean and len(initial.mean) == net.in_chans:
        net.set_normalisation(initial.mean, initial.std)
    for note in notes:
        _log.warning(note)
    net.origin = Origin(initial.address, initial.licence, tuple(notes))


def _fill_neck(net: EmbeddingNet, state: State, address: str) -> list[str]:
    notes = []
    for part, module in net.parts():
        if part not in ("pooling", "neck"):
            continue
        theirs, ours = _below(state, f"{part}."), module.state_dict()
        if {key: value.shape for key, value in theirs.items()} == {key: value.shape for key, value in ours.items()}:
            module.load_state_dict(theirs)
        else:
            notes.append(f"{address}: its {part} differs from this one and is left out")
    return notes


def _below(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's CPU generator starts from `seed` within, and is afterwards as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
