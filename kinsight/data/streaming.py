"""Stored embeddings a block at a time or by row, whatever they are stored in: the one way to open vectors.

Shapes: N vectors, D dimensions, B rows of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import storage
from kinsight.data.arrow import pc
from kinsight.data.pieces import list_matrix, open_parquet, parquet_rows
from kinsight.data.stored import altered, npy_parts, num_rows, read_column, read_header, read_shard, unusable
from kinsight.data.vector_files import (
    ENDINGS,
    VECTOR_COLUMN,
    VectorFile,
    as_float32,
    is_vector_file,
    open_vector_file,
)
from kinsight.data.vectors import HEADER, LABELS, SHARD_ROWS, SPEC, VECTORS, flat_vectors, shard_name
from kinsight.errors import DataError, StorageError

_KNOWN = ("labels", "uri", VECTOR_COLUMN)


class Block(NamedTuple):
    """vector_ND: float32. labels: lists of integers, perhaps of text in another tool's file. uri: strings, empty where
    unknown. columns: `id` and the source's further columns, where there are any.
    """

    vector_ND: np.ndarray
    labels: pa.ChunkedArray
    uri: pa.ChunkedArray
    columns: pa.Table


class _Stored(Protocol):
    def blocks(self, start: int = 0) -> Iterator[Block]: ...
    def column(self, name: str) -> pa.ChunkedArray: ...
    def rows(self) -> VectorFile: ...


@dataclass(frozen=True)
class EmbeddingStream:
    """Made by `open_embeddings`. count: vectors; dim: their length; class_names, header: as in `Embeddings`."""

    place: storage.Address
    count: int
    dim: int
    _stored: _Stored
    class_names: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)

    def blocks(self) -> Iterator[Block]:
        """All vectors in order, some ten thousand at a time. Raises DataError where a part is altered or missing."""
        return self._stored.blocks()

    def between(self, start: int, stop: int) -> "EmbeddingStream":
        """Rows start..stop-1 alone; what is before them is not read."""
        part = _Part(self._stored, start, stop)
        return EmbeddingStream(self.place, stop - start, self.dim, part, self.class_names, self.header)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all vectors, without reading the vectors where they have columns beside them."""
        return self._stored.column(name)

    @cached_property
    def rows(self) -> VectorFile:
        """The vectors alone, also by number; remote ones are copied into the cache first. Raises as `blocks`."""
        found = self._stored.rows()
        if (len(found), found.dim) != (self.count, self.dim):
            what = f"holds {len(found)} vectors of length {found.dim}, the header says {self.count} of {self.dim}"
            raise altered(self.place, what)
        return found


class _Shards(NamedTuple):
    """What `kinsight embed` wrote."""

    place: storage.Address
    header: dict[str, Any]

    def blocks(self, start: int = 0) -> Iterator[Block]:
        done, schema, dim, count = 0, None, self.header["dim"], self.header["count"]
        for file in self._files():
            if done < start and (rows := num_rows(file)) <= start - done:
                done += rows
                continue
            table = read_shard(file, dim)
            if schema is not None and not table.schema.equals(schema):
                raise altered(file, "has other columns than the shards before it")
            first, done, schema = max(0, start - done), done + len(table), table.schema
            if done > count:
                break
            table = table.slice(first)
            vector_ND = flat_vectors(table).reshape(-1, dim).copy()  # Arrow's memory is read only
            yield Block(vector_ND, table["labels"], table["uri"], table.drop_columns(list(_KNOWN)))
        if done != count:
            raise altered(self.place, f"holds {done} vectors or more, the header says {count}")

    def column(self, name: str) -> pa.ChunkedArray:
        parts = [read_column(file, name) for file in self._files()]
        try:
            return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
        except pa.ArrowInvalid as error:
            raise altered(self.place, f"has shards of different columns: {error}") from None

    def rows(self) -> VectorFile:
        paths = [storage.copy_in(file) for file in self._files()]
        return VectorFile(self.place, parquet_rows(self.place, paths, VECTOR_COLUMN))

    def _files(self) -> list[storage.Address]:
        return [self.place.child(shard_name(number)) for number in range(self.header["shards"])]


class _Table(NamedTuple):
    """One Parquet file of another tool: a column `vector`; `labels`, `uri` and further ones where it has them."""

    place: storage.Address

    def blocks(self, start: int = 0) -> Iterator[Block]:
        file = open_parquet(self.place, storage.copy_in(self.place), VECTOR_COLUMN)
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        end_G = np.cumsum(sizes)
        groups = np.flatnonzero(end_G > start).tolist()
        skip = start - int(end_G[groups[0]] - sizes[groups[0]]) if groups else 0
        try:
            for batch in file.iter_batches(SHARD_ROWS, row_groups=groups):
                first, skip = min(skip, len(batch)), max(0, skip - len(batch))
                if first < len(batch):
                    yield self._block(pa.Table.from_batches([batch.slice(first)]))
        except (pa.ArrowException, OSError) as error:
            raise unusable(self.place, "parquet", f"is no whole Parquet file: {error}", "copy it again") from None

    def column(self, name: str) -> pa.ChunkedArray:
        file = open_parquet(self.place, storage.copy_in(self.place), VECTOR_COLUMN)
        if name == "uri" and name not in file.schema_arrow.names:
            return pa.chunked_array([pa.repeat("", file.metadata.num_rows)])
        return pq.read_table(storage.copy_in(self.place), columns=[name])[name]

    def rows(self) -> VectorFile:
        return open_vector_file(self.place)

    def _block(self, table: pa.Table) -> Block:
        own = [name for name in _KNOWN if name in table.column_names]
        vector_BD = as_float32(list_matrix(table[VECTOR_COLUMN], self.place, VECTOR_COLUMN))
        labels = _label_lists(table["labels"]) if "labels" in own else _no_labels(len(table))
        uri = table["uri"] if "uri" in own else pa.chunked_array([pa.repeat("", len(table))])
        for name, found, wanted in (
            ("labels", labels is not None, "text or integers, or lists of them"),
            ("uri", _holds_text(uri.type), "text"),
        ):
            if not found:
                what = f"column {name!r} holds {table[name].type}, not {wanted}"
                raise unusable(self.place, "parquet", what, "give that column another name")
        assert labels is not None
        return Block(vector_BD, labels, pc.fill_null(uri.cast(pa.string()), ""), table.drop_columns(own))


class _Array(NamedTuple):
    """A file of rows, which stay on disk, with what is known beside them: nothing, or all of it."""

    vectors: VectorFile
    labels: pa.ChunkedArray | None = None
    uri: pa.ChunkedArray | None = None
    columns: pa.Table | None = None

    def blocks(self, start: int = 0) -> Iterator[Block]:
        for first in range(start, len(self.vectors), SHARD_ROWS):
            part_BD = as_float32(self.vectors.rows(first, first + SHARD_ROWS))
            count = len(part_BD)
            labels = _no_labels(count) if self.labels is None else self.labels.slice(first, count)
            uri = pa.chunked_array([pa.repeat("", count)]) if self.uri is None else self.uri.slice(first, count)
            columns = pa.table({}) if self.columns is None else self.columns.slice(first, count)
            yield Block(part_BD, labels, uri, columns)

    def column(self, name: str) -> pa.ChunkedArray:
        if name == "uri":
            return pa.chunked_array([pa.repeat("", len(self.vectors))]) if self.uri is None else self.uri
        assert self.columns is not None, "only columns that a block has are asked for"
        return self.columns[name]

    def rows(self) -> VectorFile:
        return self.vectors


class _Part(NamedTuple):
    """Rows start..stop-1 of others."""

    stored: _Stored
    start: int
    stop: int

    def blocks(self, start: int = 0) -> Iterator[Block]:
        first = self.start + start
        for block in self.stored.blocks(first):
            count = min(len(block.vector_ND), self.stop - first)
            yield Block(block.vector_ND[:count], *(part.slice(0, count) for part in block[1:]))
            first += count
            if first == self.stop:
                return

    def column(self, name: str) -> pa.ChunkedArray:
        return self.stored.column(name).slice(self.start, self.stop - self.start)

    def rows(self) -> VectorFile:
        return self.stored.rows().between(self.start, self.stop)


def open_embeddings(address: storage.AddressLike, *, dataset: str = "train") -> EmbeddingStream:
    """Embeddings at an address: what `kinsight embed` wrote, a folder with `vectors.npy`, alone or with `labels.npy`,
    or one file: .npy, .fvecs, .bvecs, .ivecs, .hdf5, .h5 or .parquet (a column `vector`, and further ones).

    dataset: of an HDF5 file. Raises StorageError where nothing is, DataError for what is incomplete, altered, empty or
    of another format.
    """
    place = storage.Address.parse(address)
    stream = _file(place, dataset) if is_vector_file(place) else _in_folder(place)
    if not stream.count:
        raise DataError("embeddings.empty", "holds no vector", field=str(place), remedy="embed images first")
    return stream


def _file(place: storage.Address, dataset: str) -> EmbeddingStream:
    ending = place.name.lower().rpartition(".")[2]
    vectors = open_vector_file(place, dataset if ending in ("hdf5", "h5") else None)
    stored = _Table(place) if ending == "parquet" else _Array(vectors)
    return EmbeddingStream(place, len(vectors), vectors.dim, stored)


def _in_folder(place: storage.Address) -> EmbeddingStream:
    if storage.exists(place.child(HEADER)):
        header = read_header(place.child(HEADER))
        stored = _folder(place, header) if header["storage"] == "npy" else _Shards(place, header)
        return EmbeddingStream(place, header["count"], header["dim"], stored, tuple(header["class_names"]), header)
    if storage.exists(place.child(SPEC)):
        raise unusable(place, "incomplete", f"{HEADER} is missing: not finished", "give the embed command again")
    if storage.exists(place.child(VECTORS)):
        file = place.child(VECTORS)
        array = _folder(place, {}) if storage.exists(place.child(LABELS)) else _Array(open_vector_file(file))
        return EmbeddingStream(place, len(array.vectors), array.vectors.dim, array)
    if not storage.exists(place):
        raise StorageError("storage.not-found", f"{place}: no embeddings there", remedy="check the address")
    what = f"holds neither {HEADER} nor {VECTORS}, and is no file that ends in {', '.join(ENDINGS)}"
    raise unusable(place, "absent", what, "give what `kinsight embed` wrote, a folder with that file, or such a file")


def _folder(place: storage.Address, header: dict[str, Any]) -> _Array:
    vector_ND, _, uri, columns = npy_parts(place, header)
    # Numbers of our own are the images'; another tool's rows have none but their position.
    kept = columns.select(["id"]) if header else columns.select([])
    return _Array(VectorFile(place.child(VECTORS), vector_ND), columns["labels"], uri, kept)


def _no_labels(count: int) -> pa.ChunkedArray:
    none = pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], pa.int32()))
    return pa.chunked_array([none])


def _label_lists(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Labels as lists, of integers or of text, one or several or none in a row; None where they are something else."""
    whole, kind = pa.concat_arrays(column.chunks), column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        row_M, each = pc.list_parent_indices(whole).to_numpy(zero_copy_only=False), pc.list_flatten(whole)
    else:
        row_M, each = np.arange(len(whole)), whole
    if _holds_text(each.type) or pa.types.is_null(each.type):
        each = each.cast(pa.string())
        kept = pc.fill_null(pc.not_equal(each, ""), False)
    elif pa.types.is_integer(each.type):
        kept = pc.is_valid(each)
    else:
        return None
    count_N = np.bincount(row_M[kept.to_numpy(zero_copy_only=False)], minlength=len(whole))
    offsets = pa.array(np.concatenate([[0], np.cumsum(count_N)]).astype(np.int32))
    return pa.chunked_array([pa.ListArray.from_arrays(offsets, each.filter(kept))])


def _holds_text(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)
