"""The jobs `index build`, `index add` and `index delete`."""

from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kinsight import progress, storage
from kinsight.data.arrow import pc
from kinsight.data.streaming import Block, EmbeddingStream, open_embeddings
from kinsight.errors import DataError, SpecError
from kinsight.indexing.belonging import fitting_partition, refuse_other
from kinsight.indexing.duplicates import decide_repeats
from kinsight.indexing.generation import Generation
from kinsight.indexing.growing import Blocks, absorb, add_rows, fill, grown_gallery, old_blocks, tuned_again
from kinsight.indexing.header import IndexHeader, read_header
from kinsight.indexing.index import Index
from kinsight.indexing.kinds import build_structure
from kinsight.indexing.lock import writing
from kinsight.indexing.outputs import carried, counted, printed, to_replace, writable
from kinsight.indexing.settings import decide, describe
from kinsight.indexing.source import choose_columns, items_of, known_columns
from kinsight.indexing.summary import say_state
from kinsight.indexing.training_needs import refuse_few
from kinsight.indexing.unusable import refusing
from kinsight.neighbors import Metric
from kinsight.partition import Partition
from kinsight.specs.index import IndexAdd, IndexBuild, IndexDelete
from kinsight.specs.load import of


class Part(NamedTuple):
    """Consecutive rows of a whole, from `start` on; running numbers begin there. total: rows of the whole.

    made_of: what the whole's embeddings and partition are known by.
    """

    start: int
    total: int
    made_of: str


def build(spec: IndexBuild | Mapping[str, Any], *, overwrite: bool = False) -> str:
    """Build an index; the same as `kinsight index build`. Returns its address.

    overwrite: replace the index that is there; who has it open keeps the old one.
    Raises SpecError for settings that cannot work on these vectors, DataError for vectors that cannot be indexed or
    ids that repeat, StorageError, RunError while another process writes there.
    """
    spec = of(IndexBuild, spec)
    place, stream = writable(spec.output), open_embeddings(spec.embeddings)
    say_state(place, build_of(spec, place, stream, overwrite=overwrite))
    return spec.output


def build_of(
    spec: IndexBuild,
    place: storage.Address,
    stream: EmbeddingStream,
    *,
    overwrite: bool = False,
    part: Part | None = None,
) -> IndexHeader:
    """`build` of an open stream at `place`; its header. part: of which whole it is one. Raises as `build`."""
    first_id = part.start if part else 0
    partition = None if spec.partition is None else fitting_partition(spec.partition, stream)
    metric = _metric(spec, partition)
    settings = decide(spec.index, stream.count, stream.dim, partition)
    refuse_few(settings, stream.count)
    progress.say(f"index       {describe(settings)}; {metric}, {stream.count:,} vectors of length {stream.dim}")
    with writing(place) as lock:
        before = to_replace(place, overwrite)
        columns = choose_columns(_first(stream), spec.id_column, spec.columns, str(stream.place))
        if spec.id_column is not None and part is None:
            refuse_repeats(spec, stream)
        with Generation(lock, before) as made:
            start = first_id if spec.id_column is None else None
            rows = range(first_id, first_id + stream.count)
            blocks = refusing(items_of(stream, columns, stream.class_names, start), rows, str(stream.place), metric)
            segment = made.write_rows(counted(blocks, "read", stream.count), stream.dim, metric)
            assert segment is not None, "embeddings are never empty"
            structure = build_structure(settings, stream.dim, metric, partition)
            if structure is not None:
                structure = fill(structure, made, segment, stream.dim, metric)
                settings = structure.settings
            return made.publish(
                **_origin(stream),
                kind=settings.kind,
                metric=metric,
                dim=stream.dim,
                rows=segment.rows,
                live=segment.rows,
                id_type="int64" if columns.id_type == pa.int64() else "string",
                id_column=spec.id_column,
                next_id=first_id + segment.rows if spec.id_column is None else None,
                columns=tuple(field.name for field in columns.kept),
                structure=settings.model_dump(mode="json", exclude={"kind"}),
                segments=(segment,),
                structure_file=made.write_structure(structure),
                partition_file=made.write_partition(partition),
                deleted_file=None,
                spec=printed(spec) | ({} if part is None else {"part": list(part)}),
            )


def refuse_repeats(spec: IndexBuild, stream: EmbeddingStream) -> None:
    """Raise DataError for ids that come twice."""
    if spec.id_column is not None:
        kind = choose_columns(_first(stream), spec.id_column, spec.columns, str(stream.place)).id_type
        decide_repeats(_ids(stream, spec.id_column, kind), _none(kind), "error")


def _metric(spec: IndexBuild, partition: Partition | None) -> Metric:
    """The metric asked for; a learned partition's own, which it may not differ from."""
    if partition is None:
        return spec.metric
    theirs = partition.header.metric
    if "metric" in spec.model_fields_set and spec.metric != theirs:
        raise SpecError(
            "index.setting",
            f"the partition was learned for {theirs}",
            field=f"metric={spec.metric}",
            remedy=f"leave it out, or learn a partition with metric {spec.metric}",
        )
    return theirs


def add(spec: IndexAdd | Mapping[str, Any]) -> str:
    """Add embeddings to an index; the same as `kinsight index add`. Returns the index's address.

    Raises as `build`, and DataError for embeddings of another model, length or normalisation.
    """
    spec = of(IndexAdd, spec)
    place, stream = writable(spec.index), open_embeddings(spec.embeddings)
    with writing(place) as lock:
        index = Index.open(place)
        before = index.header
        refuse_other(index, stream)
        schema = index.items([]).schema if index.num_rows else None
        assert schema is not None, "an index is never built empty"
        columns = known_columns(stream, _first(stream), schema, before.id_column)
        kept_N, replaced = np.ones(stream.count, bool), _none(columns.id_type)
        if before.id_column is not None:
            ids = _ids(stream, before.id_column, columns.id_type)
            kept_N, gone = decide_repeats(ids, index.live_ids(), spec.on_duplicate)
            replaced = pa.chunked_array([gone])
        elif "on_duplicate" in spec.model_fields_set:
            raise SpecError("index.setting", "has no effect: ids are running numbers", field="on_duplicate")
        else:
            _warn_of_copies(index, stream)
        if not kept_N.any():
            progress.say(f"index       all {stream.count:,} items are in it already; nothing is added")
            return spec.index
        with Generation(lock, before) as made:
            blocks = _kept(items_of(stream, columns, stream.class_names, before.next_id), kept_N)
            blocks = refusing(blocks, np.flatnonzero(kept_N), str(stream.place), before.metric)
            _append(index, made, counted(blocks, "add", int(kept_N.sum())), int(kept_N.sum()), replaced)
    header = read_header(place)
    say_state(place, header)
    return spec.index


def _warn_of_copies(index: Index, stream: EmbeddingStream) -> None:
    """Running numbers say nothing of an image that is in the index already; its address does."""
    there, added = index.live_uris(), stream.column("uri").cast(pa.string())
    there = there.filter(pc.not_equal(there, ""))  # null is left out, too
    if copies := pc.sum(pc.is_in(added, value_set=pc.unique(there))).as_py():
        progress.warn(
            f"{copies:,} of the {len(added):,} items have addresses that are in the index already, and will be found "
            "twice; build with an id_column (uri will do) to have repeated ones refused, skipped or replaced"
        )


def delete(spec: IndexDelete | Mapping[str, Any]) -> str:
    """Delete items by id; the same as `kinsight index delete`. Returns the index's address.

    Raises DataError for ids that are not there (unless they may be missing), RunError while another process writes.
    """
    spec = of(IndexDelete, spec)
    place = writable(spec.index)
    ids = spec.ids
    if spec.ids_file is not None:
        ids = [line for line in storage.read_text(spec.ids_file).splitlines() if line]
    with writing(place) as lock:
        index = Index.open(place)
        row_M = index.known_rows_of(ids) if spec.missing == "ignore" else index.rows_of(ids)
        row_M = np.unique(row_M[row_M >= 0])
        if not len(row_M):
            progress.say("index       none of these items is in it; nothing is deleted")
            return spec.index
        before = index.header
        with Generation(lock, before) as made:
            dead_M = np.union1d(index.dead_rows(), row_M)
            header = made.publish(
                **carried(before) | {"live": before.rows - len(dead_M)},
                segments=before.segments,
                structure_file=before.structure_file,
                deleted_file=made.write_deleted(dead_M),
            )
    progress.say(f"deleted     {len(row_M):,} items")
    say_state(place, header)
    return spec.index


def _append(index: Index, made: Generation, blocks: Blocks, count: int, replaced: pa.ChunkedArray) -> None:
    before = index.header
    stays, absorbed = absorb(before.segments, count)
    first = sum(part.rows for part in stays)
    old = old_blocks(index, first, before.rows)
    segment = made.write_rows(chain(old, blocks), before.dim, before.metric)
    assert segment is not None and segment.rows == sum(part.rows for part in absorbed) + count
    structure = index.structure
    if structure is not None:
        add_rows(structure, made, segment, before.dim, before.metric, start=segment.rows - count)
    dead_M = np.union1d(index.dead_rows(), index.rows_of(replaced.to_pylist()))
    if structure is not None:
        structure = tuned_again(structure, grown_gallery(index, len(stays), made, segment, dead_M))
    rows = before.rows + count
    next_id = None if before.next_id is None else before.next_id + count
    made.publish(
        **carried(before)
        | {"rows": rows, "live": rows - len(dead_M), "next_id": next_id}
        | ({} if structure is None else {"structure": structure.settings.model_dump(mode="json", exclude={"kind"})}),
        segments=(*stays, segment),
        structure_file=made.write_structure(structure),
        deleted_file=made.write_deleted(dead_M),
    )


def _kept(blocks: Blocks, kept_N: np.ndarray) -> Blocks:
    start = 0
    for vector_BD, table in blocks:
        kept_B = kept_N[start : start + len(table)]
        start += len(table)
        if kept_B.any():
            yield vector_BD[kept_B], table.filter(pa.array(kept_B))


def _first(stream: EmbeddingStream) -> Block:
    return next(stream.blocks())


def _ids(stream: EmbeddingStream, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return stream.column(name).cast(kind)
    except pa.ArrowInvalid as error:
        raise DataError("index.columns", f"holds no id: {error}", field=f"id_column={name}") from None


def _none(kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([], kind)


def _origin(stream: EmbeddingStream) -> dict[str, Any]:
    return {name: stream.header.get(name) for name in ("model", "model_hash", "normalized")}
