"""From stored embeddings to the items of an index: ids, label names, the columns that are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kinsight import progress
from kinsight.data.arrow import pc
from kinsight.data.streaming import Block, EmbeddingStream
from kinsight.errors import DataError, SpecError

SEPARATOR = " | "
# What an item already has, and what a search's result adds to it.
RESERVED = ("id", "label", "uri", "query", "rank", "similarity", "accepted", "row")


@dataclass(frozen=True)
class Columns:
    """Which columns become what. id_column: None: running numbers from `next_id`."""

    id_column: str | None
    id_type: pa.DataType
    kept: tuple[pa.Field, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """Of the items."""
        own = [pa.field("id", self.id_type), pa.field("label", pa.string()), pa.field("uri", pa.string())]
        return pa.schema([*own, *self.kept])


def choose_columns(block: Block, id_column: str | None, columns: Sequence[str] | None, source: str) -> Columns:
    """What a build takes from the embeddings. Raises SpecError for columns that are not there, or cannot be kept."""
    known = {field.name: field.type for field in block.columns.schema} | {"uri": pa.string()}
    for name in [*([id_column] if id_column else []), *(columns or ())]:
        if name not in known:
            there = ", ".join(known)
            setting = "id_column" if name == id_column else "columns"
            raise SpecError("index.column", f"{source} has no column {name!r}; it has {there}", field=setting)
    kept = [name for name in known if name not in ("id", "uri", id_column)] if columns is None else list(columns)
    fields = []
    for name in kept:
        if name == "uri" or name == id_column:
            continue  # an item has these anyway
        fault = _fault(name, known[name])
        if fault and columns is not None:
            raise SpecError("index.column", f"column {name!r} {fault}", field="columns")
        if fault:
            progress.warn(f"column {name!r} is left out: it {fault}")
        else:
            fields.append(pa.field(name, _plain(known[name])))
    id_type = pa.int64() if id_column is None else _id_type(known[id_column], id_column)
    return Columns(id_column, id_type, tuple(fields))


def known_columns(stream: EmbeddingStream, block: Block, schema: pa.Schema, id_column: str | None) -> Columns:
    """The columns that an index has, for embeddings that are added to it. Raises DataError where one is missing."""
    known = {field.name: field.type for field in block.columns.schema} | {"uri": pa.string()}
    columns = Columns(id_column, schema.field("id").type, tuple(schema)[3:])
    for field in columns.kept:
        if field.name not in known or _plain(known[field.name]) != field.type:
            found = f"has it as {known[field.name]}" if field.name in known else "has no such column"
            raise _other_columns(stream, field.name, f"{found}; the index holds {field.type}")
    if id_column is not None:
        if id_column not in known:
            raise _other_columns(stream, id_column, "has no such column, which holds the ids")
        if _id_type(known[id_column], id_column) != columns.id_type:
            raise _other_columns(stream, id_column, f"has ids of {known[id_column]}, the index {columns.id_type}")
    return columns


def items_of(
    stream: EmbeddingStream, columns: Columns, names: Sequence[str], next_id: int | None
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """(vectors float32 (n, D), items) block by block, as the index keeps them. names: of label numbers.

    Raises DataError for an item without an id.
    """
    start = 0
    for block in stream.blocks():
        count = len(block.vector_ND)
        ids = _ids(stream, block, columns, next_id, start)
        parts = [ids, label_names(block.labels, names), block.uri.cast(pa.string())]
        parts += [block.columns[field.name].cast(field.type) for field in columns.kept]
        yield block.vector_ND, pa.table(parts, schema=columns.schema)
        start += count


def label_names(labels: pa.ChunkedArray, names: Sequence[str]) -> pa.ChunkedArray:
    """The labels of each image as one string: names where they are known, else numbers; text as it is."""
    if pa.types.is_string(labels.type.value_type):
        return pc.binary_join(labels, SEPARATOR)
    number_M = pc.list_flatten(labels).to_numpy()
    shown = np.array([*names, ""], object)
    known_M = (number_M >= 0) & (number_M < len(names))
    text_M = np.where(known_M, shown[np.where(known_M, number_M, -1)], number_M.astype(str).astype(object))
    counts = pc.fill_null(pc.list_value_length(labels), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(text_M.tolist(), pa.string()))
    return pa.chunked_array([pc.binary_join(lists, SEPARATOR)])


def _ids(stream: EmbeddingStream, block: Block, columns: Columns, next_id: int | None, start: int) -> pa.ChunkedArray:
    if columns.id_column is None:
        assert next_id is not None, "running numbers have a next one"
        first = next_id + start
        return pa.chunked_array([pa.array(np.arange(first, first + len(block.vector_ND)))])
    column = block.uri if columns.id_column == "uri" else block.columns[columns.id_column]
    try:
        ids = column.cast(columns.id_type)
    except pa.ArrowInvalid as error:
        raise _other_columns(stream, columns.id_column, f"holds no id: {error}") from None
    empty = ids.null_count or (columns.id_type == pa.string() and bool(pc.any(pc.equal(ids, "")).as_py()))
    if empty:
        missing = pc.is_null(ids) if ids.null_count else pc.equal(ids, "")
        row = start + int(np.flatnonzero(missing.to_numpy())[0])
        raise _other_columns(stream, columns.id_column, f"is empty for vector {row}, which then has no id")
    return ids


def _fault(name: str, kind: pa.DataType) -> str:
    if name == "label":
        return "is no column of its own in an index; name it `labels` to have it as the label"
    if name in RESERVED:
        return "has a name that search results use themselves"
    plain = _plain(kind)
    inner = plain.value_type if pa.types.is_list(plain) else plain
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_temporal)
    return "" if any(test(inner) for test in tests) else f"holds {kind}, which results cannot show"


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _id_type(kind: pa.DataType, name: str) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.int64()
    if _plain(kind) == pa.string():
        return pa.string()
    raise SpecError("index.id-column", f"holds {kind}; ids are integers or strings", field=f"id_column={name}")


def _other_columns(stream: EmbeddingStream, name: str, what: str) -> DataError:
    return DataError(
        "index.columns", f"column {name!r}: {what}", field=str(stream.place), remedy="embed again with that column"
    )
