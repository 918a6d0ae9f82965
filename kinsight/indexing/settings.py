"""Settings of an index decided: what was left open follows from the number and length of the vectors."""

import math
from typing import assert_never

from pydantic import TypeAdapter

from kinsight import progress
from kinsight.errors import SpecError
from kinsight.specs.index import FlatIndex, HnswIndex, IndexKind, IvfIndex, IvfPqIndex

Settings = FlatIndex | HnswIndex | IvfIndex | IvfPqIndex

_FEW_PER_LIST = 39  # training vectors per centre below which k-means follows single vectors
_PER_LIST = 64
_FEW_PER_CODE = 16  # refinement makes up for codes that are a little coarse
_SMALL_GRAPH = 1_000_000


def decide(settings: Settings, count: int, dim: int) -> Settings:
    """`settings` without nulls, for `count` vectors of length `dim`. Raises SpecError for what cannot work on them."""
    match settings:
        case FlatIndex():
            return settings
        case HnswIndex():
            chosen = {
                "m": settings.m or 32,
                "ef_construction": settings.ef_construction or 128,
                "ef_search": settings.ef_search or (128 if count <= _SMALL_GRAPH else 256),
            }
            return settings.model_copy(update=chosen)
        case IvfIndex():
            return settings.model_copy(update=_decide_lists(settings, count))
        case IvfPqIndex():
            lists = _decide_lists(settings, count)
            codes = _decide_codes(settings, lists["train_vectors"], count, dim)
            return settings.model_copy(update=lists | codes)
        case _:
            assert_never(settings)


def stored_settings(kind: str, tree: dict) -> Settings:
    """Settings as an index's header holds them. Raises ValidationError."""
    return TypeAdapter(IndexKind).validate_python({**tree, "kind": kind})


def describe(settings: Settings) -> str:
    """The settings in a line."""
    shown = settings.model_dump(exclude={"kind"})
    return "  ".join([settings.kind, *(f"{name} {value}" for name, value in shown.items() if value is not None)])


def _decide_lists(settings: IvfIndex | IvfPqIndex, count: int) -> dict[str, int]:
    lists = settings.lists or max(1, min(round(2 * math.sqrt(count)), count // _FEW_PER_LIST))
    if lists > count:
        raise _refused(f"index.lists={lists}", f"more cells than the {count:,} vectors", "lower it, or use kind flat")
    train = settings.train_vectors or min(count, max(_PER_LIST * lists, 2**14))
    if train > count:
        raise _refused(
            f"index.train_vectors={train}", f"there are {count:,} vectors", "lower it, or leave it to be chosen"
        )
    if lists > train:
        raise _refused(f"index.lists={lists}", f"more cells than the {train:,} vectors to learn from", "lower it")
    nprobe = settings.nprobe or min(lists, max(4, round(1.5 * math.sqrt(lists))))
    if nprobe > lists:
        raise _refused(f"index.nprobe={nprobe}", f"more than the {lists} cells there are", "lower it, or raise lists")
    if settings.lists and train < _FEW_PER_LIST * lists and lists > 1:
        progress.warn(
            f"index.lists={lists}: {train:,} vectors to learn from are {train / lists:.1f} for each cell; "
            f"{_FEW_PER_LIST} or more make better cells"
        )
    return {"lists": lists, "nprobe": nprobe, "train_vectors": train}


def _decide_codes(settings: IvfPqIndex, train: int, count: int, dim: int) -> dict[str, int]:
    subvectors = settings.subvectors or _subvectors(dim)
    if dim % subvectors:
        fitting = ", ".join(str(n) for n in range(1, dim + 1) if dim % n == 0)
        raise _refused(
            f"index.subvectors={subvectors}", f"does not divide the vectors' length {dim}", f"choose one of {fitting}"
        )
    bits = settings.bits or next((bits for bits in (8, 6, 4) if train >= _FEW_PER_CODE * 2**bits), 4)
    if train < 2**bits:
        raise _refused(
            f"index.bits={bits}",
            f"codes of {bits} bits need {2**bits} vectors to learn from, there are {train} (of {count:,} in all)",
            "use kind flat for so few vectors, or lower bits",
        )
    if settings.bits and train < _FEW_PER_CODE * 2**bits:
        progress.warn(
            f"index.bits={bits}: {train:,} vectors to learn from are few; {_FEW_PER_CODE * 2**bits:,} make better codes"
        )
    return {"subvectors": subvectors, "bits": bits, "train_vectors": train}


def _subvectors(dim: int) -> int:
    """Parts of about eight numbers, fewer where vectors are short."""
    wanted = max(min(dim, 32), dim // 8)
    return min((n for n in range(1, dim + 1) if dim % n == 0), key=lambda n: (abs(math.log(n / wanted)), -n))


def _refused(field: str, what: str, remedy: str) -> SpecError:
    return SpecError("index.setting", what, field=field, remedy=remedy)
