"""What a backbone's name means: the documented spellings, our own, and every timm name with or without a tag.

The table is plain text; timm is imported only for a name that is not in it.
"""

import difflib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from kinsight.errors import SpecError

CONV4 = "conv4"
LENET, CIFARNET, ALEXNET = "lenet", "cifarnet", "alexnet"
INCEPTION_V1, INCEPTION_V2 = "inception_v1", "inception_v2"
_FIELD = "model.backbone"
_log = logging.getLogger("kinsight.models")

_SIZES = ("tiny", "small", "base")
_RESNETS = (18, 34, 50, 101, 152)


_SLIM_IN_TIMM = {
    "vgg_16": "vgg16",
    "vgg_19": "vgg19",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "mobilenet_v1": "mobilenetv1_100",
    "mobilenet_v2": "mobilenetv2_100",
}
_RESNET_DIFFERS = "whose stages halve the picture in their first block, not in the last block of the stage before"
_ALEXNET_DIFFERS = "its first convolution is padded, so that its fully connected layers see 6x6 places, not 5x5"


@dataclass(frozen=True)
class BackboneName:
    """A name that stands for one network.

    asked: as the user wrote it.
    name: canonical: a timm name (with the tag that was asked for, if any), our own, or a documented one timm lacks.
    architecture: timm's entry that builds it; None for our own (`own.py`).
    options: pairs of what to build otherwise than that entry says.
    note: said once where the name is resolved, if it stands for something that its reader might not expect.
    """

    asked: str
    name: str
    architecture: str | None
    options: tuple[tuple[str, Any], ...] = ()
    note: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is built here (`own.py`), not by timm."""
        return self.architecture is None

    @property
    def in_timm(self) -> bool:
        """Whether timm's registry knows the network, and so where published weights are."""
        return self.architecture is not None and not self.options


def _documented() -> Iterator[tuple[str, BackboneName]]:
    """Pairs of documented spelling and meaning."""

    def timm(spelling: str, name: str, note: str | None = None) -> tuple[str, BackboneName]:
        return spelling, BackboneName(spelling, name, name, note=note)

    for depth in _RESNETS:
        yield timm(f"resnet_{depth}", f"resnet{depth}")
    for size in _SIZES:
        for family in ("swint", "swin_transformer", "swin"):
            yield timm(f"{family}_{size}", f"swin_{size}_patch4_window7_224")
        yield timm(f"vit_{size}", f"vit_{size}_patch16_224")
    for size in ("tiny", "small"):
        yield timm(f"xcit_{size}", f"xcit_{size}_12_p16_224")
    medium = "xcit_medium_24_p16_224"
    yield timm("xcit_base", medium, note=f"xcit_base: XCiT has no size of that name; {medium} is used")
    # The later entries of timm are the same networks as its legacy_seresnext*, with better weights.
    for depth in (50, 101):
        yield timm(f"SE_ResNeXt{depth}_32x4d", f"seresnext{depth}_32x4d")
    deepest = "seresnext152_32x4d"
    layers = (("layers", (3, 8, 36, 3)),)
    for spelling in ("SE_ResNeXt152_32x4d", deepest):
        yield spelling, BackboneName(spelling, deepest, "seresnext101_32x4d", options=layers)
    yield CONV4, BackboneName(CONV4, CONV4, None)
    for spelling, name in _SLIM_IN_TIMM.items():
        yield timm(spelling, name)
    for depth in (50, 101, 152):
        ours = f"resnet{depth}"
        yield timm(f"resnet_v1_{depth}", ours, f"resnet_v1_{depth}: {ours} is used, {_RESNET_DIFFERS}")
    yield ALEXNET, BackboneName(ALEXNET, ALEXNET, None, note=f"{ALEXNET}: {_ALEXNET_DIFFERS}")
    for name in (LENET, CIFARNET, INCEPTION_V1, INCEPTION_V2):
        yield name, BackboneName(name, name, None)


def _key(spelling: str) -> str:
    """Spellings differ by case and separators: resnet_50, ResNet50, ResNet-50."""
    return spelling.strip().lower().replace("_", "").replace("-", "").replace(" ", "")


_TABLE: dict[str, BackboneName] = {_key(spelling): meaning for spelling, meaning in _documented()}
DOCUMENTED: tuple[str, ...] = tuple(dict.fromkeys(spelling for spelling, _ in _documented()))
_said: set[str] = set()


def resolve(asked: str) -> BackboneName:
    """What `asked` stands for. Raises SpecError with the nearest names for one that stands for nothing."""
    found = _TABLE.get(_key(asked))
    if found is not None:
        if found.note and found.note not in _said:
            _said.add(found.note)
            _log.warning(found.note)
        return replace(found, asked=asked)
    return _timm_name(asked)


def _timm_name(asked: str) -> BackboneName:
    import timm  # half a second: only for names that are not in the table

    architecture, _, tag = asked.strip().partition(".")
    if not timm.is_model(architecture):
        raise _unknown(asked, [*DOCUMENTED, *timm.list_models()])
    if tag and asked.strip() not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        offered = f"one of {', '.join(tagged)}, or {architecture}" if tagged else f"{architecture} (it has no tags)"
        raise SpecError(
            "spec.unknown-backbone",
            f"{asked!r}: {architecture} has no weights tagged {tag!r}",
            field=_FIELD,
            remedy=f"use {offered}",
        )
    return BackboneName(asked, asked.strip(), asked.strip())


def _unknown(asked: str, known: list[str]) -> SpecError:
    keys = {_key(name): name for name in reversed(known)}
    near = [keys[key] for key in difflib.get_close_matches(_key(asked), list(keys), n=3, cutoff=0.6)]
    return SpecError(
        "spec.unknown-backbone",
        f"{asked!r}: no such backbone",
        field=_FIELD,
        remedy=f"did you mean {', '.join(near)}?"
        if near
        else "use one of " + ", ".join(DOCUMENTED) + ", or a timm name",
    )
