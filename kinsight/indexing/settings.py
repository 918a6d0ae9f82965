"""Settings of an index decided: what was left open follows from the number and length of the vectors."""

import math
from typing import Annotated, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from kinsight import progress
from kinsight.errors import SpecError
from kinsight.indexing.list_graph import pays, width
from kinsight.partition import Partition
from kinsight.specs.index import CopiesSpec, FlatIndex, HnswIndex, IndexKind, IvfIndex, IvfPqIndex, LearnedIndex
from kinsight.specs.stored import lenient


class Level(BaseModel):
    """Settings of a search in a learned index that reach a recall@10 on held-out vectors.

    reached: less a standard error. scanned: entries looked through, mean, copies counted. share: multiply-adds of
    routing, looking through and refinement, of those of a full scan. cost: nanoseconds a
    query is reckoned to take, by which settings were compared.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    recall: float
    reached: float
    nprobe: int
    mass: float | None = None
    refine: float
    scanned: float
    cost: float
    share: float = 0.0


class Tuned(BaseModel):
    """What `LearnedIndex` comes to. recall: what settings were sought for, None where they were given. levels: what a
    search may choose from instead. tuned_rows: how many rows there were when they were found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["learned"] = "learned"
    payload: Literal["flat", "fp16", "sq8", "pq", "fastscan", "rabitq"]
    subvectors: int | None = None
    copies: CopiesSpec | None = None
    routing: Literal["flat", "graph"] = "flat"
    recall: float | None = None
    nprobe: int | None = None
    mass: float | None = None
    refine: float | None = None
    seed: int = 0
    levels: tuple[Level, ...] = ()
    tuned_rows: int = 0


Settings = FlatIndex | HnswIndex | IvfIndex | IvfPqIndex | Tuned
"""All of an index's settings, none null but those that mean something by it."""

_FEW_PER_LIST = 39  # training vectors per centre below which k-means follows single vectors
_PER_LIST = 64
_FEW_PER_CODE = 16  # refinement makes up for codes that are a little coarse
_SMALL_GRAPH = 1_000_000


def decide(settings: IndexKind, count: int, dim: int, partition: Partition | None = None) -> Settings:
    """`settings` without nulls, for `count` vectors of length `dim`; a learned one's are found later by `tune`, where
    they are to be. Raises SpecError for what cannot work on them.
    """
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
        case LearnedIndex():
            assert partition is not None
            return _decide_learned(settings, partition)
        case _:
            assert_never(settings)


def stored_settings(kind: str, tree: dict) -> Settings:
    """Settings as an index's header holds them. Raises ValidationError."""
    validate = TypeAdapter(Annotated[Settings, Field(discriminator="kind")]).validate_python
    return lenient(validate, {**tree, "kind": kind})


def describe(settings: Settings) -> str:
    """The settings in a line."""
    shown = settings.model_dump(exclude={"kind", "levels", "tuned_rows"})
    if isinstance(settings, Tuned) and settings.copies is not None:
        shown["copies"] = f"{settings.copies.budget:g} by {settings.copies.rule}"
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


_RECALL = 0.95
_REFINE = 4.0
_NUMBERS_PER_CODE = {"pq": 4, "fastscan": 2}


def _decide_learned(settings: LearnedIndex, partition: Partition) -> Tuned:
    lists, dim = partition.header.lists, partition.space.routed_dim
    if settings.nprobe is not None and settings.nprobe > lists:
        raise _refused(f"index.nprobe={settings.nprobe}", f"more than the {lists} lists of the partition", "lower it")
    given = settings.nprobe or settings.mass or settings.refine
    probes = (settings.nprobe or _probes(lists, settings.mass)) if given else None
    if settings.routing == "graph":
        _refuse_graph(partition, probes)
    subvectors = settings.subvectors
    if settings.payload in _NUMBERS_PER_CODE:
        wanted = dim / _NUMBERS_PER_CODE[settings.payload]
        fitting = [number for number in range(1, dim + 1) if dim % number == 0]
        subvectors = subvectors or min(fitting, key=lambda number: abs(math.log(number / wanted)))
        if dim % subvectors:
            raise _refused(
                f"index.subvectors={subvectors}",
                f"does not divide the routed length {dim}",
                f"choose one of {', '.join(map(str, fitting))}",
            )
    return Tuned(
        payload=settings.payload,
        subvectors=subvectors,
        copies=settings.copies if settings.copies.budget else None,
        routing=settings.routing,
        recall=None if given else settings.recall or _RECALL,
        nprobe=probes,
        mass=settings.mass,
        refine=(settings.refine or _REFINE) if given else None,
        seed=settings.seed,
    )


def _refuse_graph(partition: Partition, probes: int | None) -> None:
    """Raise where lists cannot be chosen through a graph, or would not be. probes: of a query, None: to be found."""
    lists = partition.header.lists
    if partition.router.network is not None:
        raise _refused(
            "index.routing=graph",
            "the partition's router is of kind mlp, whose scores are no products that a graph could follow",
            "give index.routing flat, or learn the partition with router.kind linear",
        )
    if not pays(lists, width(probes or 1)):
        looked = "a graph compares" if probes is None else f"to look into {probes} of them a graph compares"
        raise _refused(
            "index.routing=graph",
            f"the partition has {lists} lists: {looked} nearly all of them",
            "give index.routing flat, or learn a partition of more lists",
        )


def _probes(lists: int, mass: float | None) -> int:
    """Lists that a query looks into; by mass, at most: choosing among more costs more than they hold."""
    return max(1, round(math.sqrt(lists) / 2)) if mass is None else min(lists, max(8, lists // 4))


def _subvectors(dim: int) -> int:
    """Parts of about eight numbers, fewer where vectors are short."""
    wanted = max(min(dim, 32), dim // 8)
    return min((n for n in range(1, dim + 1) if dim % n == 0), key=lambda n: (abs(math.log(n / wanted)), -n))


def _refused(field: str, what: str, remedy: str) -> SpecError:
    return SpecError("index.setting", what, field=field, remedy=remedy)
