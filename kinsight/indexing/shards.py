"""One set of vectors as several indexes, its shards, built side by side on a Ray cluster.

    shards.json       format, version, the shards in order with their numbers of rows, what they have in common; last
    shard-00000/      an index, as `index build` writes it, of consecutive vectors; ids go on through all shards

A row of the whole is a row of the shards put one after the other. Vectors never go through the cluster's memory: each
task reads its own part of the stored embeddings, which all machines must reach, as they must reach the output.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kinsight import __version__, progress, storage
from kinsight.data.streaming import EmbeddingStream, open_embeddings
from kinsight.errors import DataError, KinsightError, RunError, SpecError
from kinsight.indexing.cluster import connect
from kinsight.indexing.header import IndexHeader, read_header
from kinsight.indexing.jobs import Part, build_of, refuse_repeats
from kinsight.indexing.outputs import printed, writable
from kinsight.partition.artefact import HEADER as PARTITION
from kinsight.specs.index import IndexBuild
from kinsight.specs.load import of

FORMAT, VERSION = "kinsight-shards", 1
HEADER = "shards.json"
_NAME = re.compile(r"shard-\d{5,}")


class Shard(BaseModel):
    """One of them, by the name of its folder. start: number of its first row in the whole."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    start: int = Field(ge=0)
    rows: int = Field(ge=1)


class ShardsHeader(BaseModel):
    """What shards.json holds. model, model_hash: as in an index's header. spec: the job that built them."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    format: Literal["kinsight-shards"] = FORMAT
    version: int = VERSION
    kinsight: str = ""
    metric: Literal["cosine", "ip", "l2"]
    dim: int = Field(ge=1)
    rows: int = Field(ge=1)
    model: str | None = None
    model_hash: str | None = None
    shards: tuple[Shard, ...] = Field(min_length=1)
    spec: dict[str, Any] = {}

    def check(self) -> str:
        """Why the header contradicts itself; empty where it does not."""
        if odd := [shard.name for shard in self.shards if not _NAME.fullmatch(shard.name)]:
            return f"{odd[0]!r} is no name of a shard"
        ends = np.cumsum([0, *(shard.rows for shard in self.shards)]).tolist()
        if [shard.start for shard in self.shards] + [self.rows] != ends:
            return "its shards do not follow each other"
        return ""


def build_shards(
    spec: IndexBuild | Mapping[str, Any], shards: int, *, cluster: str | None = None, overwrite: bool = False
) -> ShardsHeader:
    """Build an index of stored embeddings in `shards` parts, by the settings of `index build`; output is their folder.

    cluster: address of a Ray cluster; None: the one this process is in, else this machine alone. Shards that are done
    stay when it is stopped, and are taken over by the same call, unless embeddings or partition are others since then.
    overwrite: what is there is removed once the new shards are. Partition and seeds are the same for all of them.
    Raises as `build`; RunError naming the shard whose worker was lost.
    """
    spec = of(IndexBuild, spec)
    place, stream = writable(spec.output), open_embeddings(spec.embeddings)
    if not 1 <= shards <= stream.count:
        raise SpecError("shards.number", f"must be from 1 to the {stream.count:,} vectors", field=f"shards={shards}")
    occupied = storage.exists(place.child(HEADER))
    if occupied and not overwrite:
        raise SpecError(
            "shards.occupied", "holds an index in shards", field=f"output={place}", remedy="choose another output"
        )
    refuse_repeats(spec, stream)
    edge_S1 = np.linspace(0, stream.count, shards + 1).round().astype(int).tolist()
    free = _free_number(place, shards) if occupied else 0
    parts = [
        Shard(name=f"shard-{free + number:05d}", start=edge_S1[number], rows=edge_S1[number + 1] - edge_S1[number])
        for number in range(shards)
    ]
    headers = _built(spec, place, parts, cluster, made_of=_made_of(spec, stream))
    first = headers[0]
    header = ShardsHeader(
        kinsight=__version__,
        metric=first.metric,
        dim=first.dim,
        rows=stream.count,
        model=first.model,
        model_hash=first.model_hash,
        shards=tuple(parts),
        spec=printed(spec) | {"shards": shards},
    )
    storage.write_text(place.child(HEADER), header.model_dump_json(indent=1) + "\n")
    _remove_others(place, {part.name for part in parts})
    progress.say(f"index       {header.rows:,} items in {shards} shards in {place}")
    return header


def read_shards(address: storage.AddressLike) -> ShardsHeader:
    """The header of an index in shards. Raises StorageError, DataError."""
    file = storage.Address.parse(address).child(HEADER)
    text = storage.read_text(file)
    try:
        header = ShardsHeader.model_validate(json.loads(text))
        fault = header.check()
    except (ValueError, ValidationError) as error:
        fault = str(error).splitlines()[0]
        header = None
    if fault or header is None:
        raise DataError(
            "shards.header", f"is not the header of shards: {fault}", field=str(file), remedy="copy it again"
        )
    if header.version > VERSION:
        what = f"version {header.version}, this Kinsight reads up to {VERSION}; written by Kinsight {header.kinsight}"
        raise DataError("shards.newer", what, field=str(file), remedy="use that version of Kinsight")
    return header


def _free_number(place: storage.Address, shards: int) -> int:
    """From which number on so many names are none of those that the header names, whatever else is wrong with it."""
    taken = [int(number) for number in re.findall(r"shard-(\d{5,})", storage.read_text(place.child(HEADER)))]
    return 0 if min(taken, default=shards) >= shards else max(taken) + 1


def _remove_others(place: storage.Address, kept: set[str]) -> None:
    """Shards that the header does not name: those that were replaced, and those of a build that was given up."""
    found = {entry.relative.partition("/")[0] for entry in storage.list_files(place)}
    for name in sorted(found - kept):
        if _NAME.fullmatch(name):
            storage.remove_tree(place.child(name))


def _made_of(spec: IndexBuild, stream: EmbeddingStream) -> str:
    """SHA-256 of what embeddings and partition are known by: the header, where there is one, and files' sizes and times
    or versions. Vectors are not read: they may be many, and far away.
    """
    place = stream.place
    found = storage.stat(place)
    told: list[Any] = [stream.count, stream.dim, stream.header]
    if found is not None:
        told.append([found.size, found.version])
    elif place.scheme not in ("http", "https"):  # these cannot be listed
        told.append([list(entry) for entry in storage.list_files(place, recursive=False)])
    if spec.partition is not None:
        told.append(storage.read_text(storage.Address.parse(spec.partition).child(PARTITION)))
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _built(
    spec: IndexBuild, place: storage.Address, parts: list[Shard], cluster: str | None, *, made_of: str
) -> list[IndexHeader]:
    """The shards' headers, once all are there."""
    total = sum(part.rows for part in parts)
    done: dict[str, IndexHeader] = {}
    for part in parts:
        if (header := _finished(spec, place, part, Part(part.start, total, made_of))) is not None:
            done[part.name] = header
    todo = [part for part in parts if part.name not in done]
    if done:
        progress.say(f"shards      {len(done)} of {len(parts)} are there already")
    if todo:
        _build_on_cluster(spec, place, todo, total, cluster, made_of)
    return [done.get(part.name) or read_header(place.child(part.name)) for part in parts]


def _build_on_cluster(
    spec: IndexBuild, place: storage.Address, todo: list[Shard], total: int, cluster: str | None, made_of: str
) -> None:
    connect(cluster)
    from ray import data
    from ray.exceptions import RayError

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    text = spec.model_dump_json(exclude_unset=True)
    tasks = [{"spec": text, "part": part.model_dump_json(), "total": total, "made_of": made_of} for part in todo]
    left = {part.name for part in todo}
    try:
        with progress.task("shards", len(todo), "shards") as task:
            rows = data.from_items(tasks, override_num_blocks=len(tasks)).map(build_one)
            for row in rows.iter_rows():
                if row["fault"]:
                    raise RunError("shards.failed", f"{place.child(row['name'])}: {row['fault']}")
                left.discard(row["name"])
                task.advance(1)
    except RayError as error:
        raise RunError(
            "shards.worker-lost",
            f"a worker was lost while {', '.join(sorted(left)[:5])} were to be built: {str(error).splitlines()[0]}",
            field=str(place),
            remedy="give the command again: shards that are done stay",
        ) from None


def build_one(row: dict[str, Any]) -> dict[str, str]:
    """On a worker: build one shard. Gives its name and, if it went wrong, why."""
    spec = of(IndexBuild, json.loads(row["spec"]))
    part = Shard.model_validate_json(row["part"])
    place = storage.Address.parse(spec.output).child(part.name)
    try:
        stream = open_embeddings(spec.embeddings).between(part.start, part.start + part.rows)
        build_of(spec, place, stream, overwrite=True, part=Part(part.start, row["total"], row["made_of"]))
    except KinsightError as error:
        return {"name": part.name, "fault": str(error)}
    return {"name": part.name, "fault": ""}


def _finished(spec: IndexBuild, place: storage.Address, part: Shard, of_whole: Part) -> IndexHeader | None:
    """The header of a shard that an earlier call has built with the same settings, of the same embeddings."""
    try:
        header = read_header(place.child(part.name))
    except KinsightError:
        return None
    same = header.spec == printed(spec) | {"part": list(of_whole)}
    return header if same and header.live == header.rows == part.rows else None
