"""The job `index merge`: one index of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from kinsight import progress
from kinsight.data.arrow import pc
from kinsight.errors import DataError, SpecError
from kinsight.indexing.alike import refuse_unlike
from kinsight.indexing.duplicates import OnDuplicate, decide_repeats, named
from kinsight.indexing.generation import Generation
from kinsight.indexing.growing import Blocks, fill
from kinsight.indexing.header import IndexHeader
from kinsight.indexing.index import Index
from kinsight.indexing.kinds import build_structure
from kinsight.indexing.lock import writing
from kinsight.indexing.outputs import carried, counted, printed, to_replace, writable
from kinsight.indexing.rewriting import blocks_of, partition_of, rows_left
from kinsight.indexing.settings import decide, describe
from kinsight.indexing.summary import say_state
from kinsight.indexing.training_needs import refuse_few
from kinsight.partition import Partition
from kinsight.specs.index import IndexKind, LearnedIndex
from kinsight.specs.index_rewrite import IndexMerge
from kinsight.specs.load import of
from kinsight.specs.stored import lenient


@dataclass(frozen=True)
class _Part:
    """Rows that one index gives. shift: is added to its running numbers."""

    index: Index
    row_M: np.ndarray
    shift: int = 0

    def blocks(self, columns: Sequence[str]) -> Blocks:
        for vector_BD, items in blocks_of(self.index, self.row_M, self.shift):
            yield vector_BD, items.select(columns)


def merge(spec: IndexMerge | Mapping[str, Any], *, overwrite: bool = False) -> str:
    """Make one index of several; the same as `kinsight index merge`. Returns its address.

    Its rows are those of the first index, then those of the next; deleted ones are left out.
    overwrite: replace the index that is there, which may be one of those merged; who has it open keeps the old one.
    Raises DataError for indexes that do not go together, and ids that clash; SpecError, StorageError; RunError while
    another process writes there.
    """
    spec = of(IndexMerge, spec)
    place = writable(spec.output)
    with writing(place) as lock:
        before = to_replace(place, overwrite)
        indexes = [Index.open(address) for address in spec.indexes]
        _refuse_same(indexes)
        first = indexes[0]
        for other in indexes[1:]:
            refuse_unlike(first, other)
        parts = _parts(indexes, spec)
        count = sum(len(part.row_M) for part in parts)
        if not count:
            raise SpecError("index.empty", "all of their items are deleted: nothing is left to merge", field="indexes")
        wanted = spec.index or _as_built(first.header)
        partition = _partition(wanted, first)
        settings = decide(wanted, count, first.dim, partition)
        refuse_few(settings, count)
        progress.say(f"index       {describe(settings)}; {first.metric}, {count:,} vectors of length {first.dim}")
        with Generation(lock, before) as made:
            columns = ["id", "label", "uri", *first.columns]
            blocks = counted(chain.from_iterable(part.blocks(columns) for part in parts), "merge", count)
            segment = made.write_rows(blocks, first.dim, first.metric)
            assert segment is not None and segment.rows == count
            structure = build_structure(settings, first.dim, first.metric, partition)
            if structure is not None:
                structure = fill(structure, made, segment, first.dim, first.metric)
                settings = structure.settings
            header = made.publish(
                **carried(first.header)
                | {
                    "kind": settings.kind,
                    "rows": count,
                    "live": count,
                    "next_id": _next_id(parts),
                    "normalized": _normalized(indexes),
                    "structure": settings.model_dump(mode="json", exclude={"kind"}),
                    "partition_file": made.write_partition(partition),
                    "spec": printed(spec) | {"index": wanted.model_dump(mode="json")},
                },
                segments=(segment,),
                structure_file=made.write_structure(structure),
                deleted_file=None,
            )
    say_state(place, header)
    return spec.output


def _refuse_same(indexes: Sequence[Index]) -> None:
    """Raise SpecError where two addresses lead to one index."""
    seen: dict[str, str] = {}
    for index in indexes:
        place = index.address
        real = str(place.local_path.resolve()) if place.is_local else str(place)
        if real in seen:
            raise SpecError("index.setting", f"{seen[real]} and {place} are the same index", field="indexes")
        seen[real] = str(place)


def _parts(indexes: Sequence[Index], spec: IndexMerge) -> list[_Part]:
    """What each index gives, once it is decided whose item an id is."""
    if indexes[0].header.id_column is None:
        if "on_duplicate" in spec.model_fields_set:
            raise SpecError("index.setting", "has no effect: ids are running numbers", field="on_duplicate")
        return _numbered(indexes, spec.renumber)
    if "renumber" in spec.model_fields_set:
        raise SpecError("index.setting", "has no effect: ids are no running numbers", field="renumber")
    return _identified(indexes, spec.on_duplicate)


def _numbered(indexes: Sequence[Index], renumber: bool) -> list[_Part]:
    if not renumber:
        _refuse_clashes(indexes, "add --renumber, which gives those of later indexes new numbers")
        return [_Part(index, rows_left(index)) for index in indexes]
    parts, shift = [], 0
    for index in indexes:
        parts.append(_Part(index, rows_left(index), shift))
        if shift:
            progress.say(f"ids         {index.address}: {shift:,} is added to each")
        assert index.header.next_id is not None, "running numbers have a next one"
        shift += index.header.next_id
    return parts


def _identified(indexes: Sequence[Index], policy: OnDuplicate) -> list[_Part]:
    if policy == "error":
        _refuse_clashes(
            indexes, "add --on-duplicate skip, to keep the first one's item, or replace, for the last one's"
        )
        return [_Part(index, rows_left(index)) for index in indexes]
    ids = pa.chunked_array([chunk for index in indexes for chunk in index.live_ids().chunks], _id_type(indexes[0]))
    kept_N, _ = decide_repeats(ids, pa.chunked_array([], ids.type), policy)
    parts, start = [], 0
    for index in indexes:
        row_M = rows_left(index)
        parts.append(_Part(index, row_M[kept_N[start : start + len(row_M)]]))
        start += len(row_M)
    gone = len(kept_N) - int(kept_N.sum())
    progress.say(f"duplicates  {gone:,} items whose id comes again are left out, the {_WINS[policy]} kept")
    return parts


_WINS = {"skip": "first of each", "replace": "last of each"}


def _refuse_clashes(indexes: Sequence[Index], remedy: str) -> None:
    """Raise where two indexes hold the same id, naming both."""
    for number, later in enumerate(indexes):
        for earlier in indexes[:number]:
            ids = later.live_ids()
            both = ids.filter(pc.is_in(ids, value_set=pc.unique(earlier.live_ids())))
            if len(both):
                raise DataError(
                    "index.repeated-id",
                    f"{named(both)}: in {earlier.address} and in {later.address}; an id names one item",
                    field="indexes",
                    remedy=remedy,
                )


def _as_built(header: IndexHeader) -> IndexKind:
    """The settings an index was built with, those left open still open; its own where it does not say."""
    given = header.spec.get("index")
    if not isinstance(given, dict) or given.get("kind") != header.kind:
        given = {name: value for name, value in header.structure.items() if value is not None} | {"kind": header.kind}
        if given.get("recall") is not None:
            given = {name: value for name, value in given.items() if name not in _FOUND}
    copies = given.get("copies")
    if isinstance(copies, dict) and not copies.get("budget"):  # without copies no rule counts, default then or not
        given = {name: value for name, value in given.items() if name != "copies"}
    return lenient(TypeAdapter(IndexKind).validate_python, given)


_FOUND = ("nprobe", "mass", "refine")
"""By a recall asked for, so never given with it."""


def _partition(wanted: IndexKind, first: Index) -> Partition | None:
    """The partition of the first index, where one is needed."""
    if not isinstance(wanted, LearnedIndex):
        return None
    found = partition_of(first)
    if found is None:
        raise SpecError(
            "index.setting",
            f"needs a partition, and {first.address} is of kind {first.kind}, without one",
            field="index.kind=learned",
            remedy="name an index of kind learned first, or build one: kinsight index build --partition",
        )
    return found


def _next_id(parts: Sequence[_Part]) -> int | None:
    """What running numbers go on with."""
    known = [(part.shift, part.index.header.next_id) for part in parts]
    return max((shift + next_id for shift, next_id in known if next_id is not None), default=None)


def _normalized(indexes: Sequence[Index]) -> bool | None:
    """Under cosine lengths may differ between them; then nothing is known of all."""
    found = {index.header.normalized for index in indexes}
    return found.pop() if len(found) == 1 else None


def _id_type(index: Index) -> pa.DataType:
    return pa.int64() if index.header.id_type == "int64" else pa.string()
