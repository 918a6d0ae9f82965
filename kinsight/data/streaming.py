"""Stored embeddings a block at a time, for those who do not need all of them in memory at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kinsight import storage
from kinsight.data.stored import (
    altered,
    check_npy_vectors,
    npy_parts,
    read_column,
    read_header,
    read_npy,
    read_shard,
    unusable,
)
from kinsight.data.vectors import HEADER, LABELS, SHARD_ROWS, SPEC, VECTORS, flat_vectors, shard_name
from kinsight.errors import DataError, StorageError

_KNOWN = ("labels", "uri", "vector")


class Block(NamedTuple):
    """vector_ND: float32. labels: lists of integers. uri: strings, empty where unknown. columns: `id` and the source's
    further columns, where there are any.
    """

    vector_ND: np.ndarray
    labels: pa.ChunkedArray
    uri: pa.ChunkedArray
    columns: pa.Table


@dataclass(frozen=True)
class EmbeddingStream:
    """Made by `open_embeddings`. count: vectors; dim: their length; class_names, header: as in `Embeddings`."""

    place: storage.Address
    count: int
    dim: int
    class_names: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)
    _npy: "_Npy | None" = None

    def blocks(self) -> Iterator[Block]:
        """All vectors in order, some ten thousand at a time. Raises DataError where a part is altered or missing."""
        return self._shards() if self._npy is None else self._npy.blocks()

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all vectors, without reading the vectors where they are in shards."""
        if self._npy is None:
            parts = [read_column(self.place.child(shard_name(n)), name) for n in range(self.header["shards"])]
            try:
                return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
            except pa.ArrowInvalid as error:
                raise altered(self.place, f"has shards of different columns: {error}") from None
        blocks = [block.uri if name == "uri" else block.columns[name] for block in self.blocks()]
        return pa.chunked_array([chunk for part in blocks for chunk in part.chunks], blocks[0].type)

    def _shards(self) -> Iterator[Block]:
        start, schema = 0, None
        for number in range(self.header["shards"]):
            file = self.place.child(shard_name(number))
            table = read_shard(file, self.dim)
            if schema is not None and not table.schema.equals(schema):
                raise altered(file, "has other columns than the shards before it")
            start, schema = start + len(table), table.schema
            if start > self.count:
                break
            vector_ND = flat_vectors(table).reshape(-1, self.dim).copy()  # Arrow's memory is read only
            yield Block(vector_ND, table["labels"], table["uri"], table.drop_columns(list(_KNOWN)))
        if start != self.count:
            raise altered(self.place, f"holds {start} vectors or more, the header says {self.count}")


class _Npy(NamedTuple):
    """Files of another tool, or ours for other tools; the vectors stay on disk."""

    vector_ND: np.ndarray
    labels: pa.ChunkedArray
    uri: pa.ChunkedArray
    columns: pa.Table

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.vector_ND), SHARD_ROWS):
            part_BD = np.array(self.vector_ND[start : start + SHARD_ROWS], np.float32)
            labels, uri = self.labels.slice(start, SHARD_ROWS), self.uri.slice(start, SHARD_ROWS)
            yield Block(part_BD, labels, uri, self.columns.slice(start, SHARD_ROWS))


def open_embeddings(address: storage.AddressLike) -> EmbeddingStream:
    """Embeddings at an address: as `load_embeddings` takes them, a folder with `vectors.npy` alone, or one .npy file.

    Raises as `load_embeddings`.
    """
    place = storage.Address.parse(address)
    if place.name.endswith(".npy"):
        return _bare(place)
    if storage.exists(place.child(HEADER)):
        header = read_header(place.child(HEADER))
        names, sizes = tuple(header["class_names"]), (header["count"], header["dim"])
        return _not_empty(
            EmbeddingStream(
                place, *sizes, names, header, _folder(place, header) if header["storage"] == "npy" else None
            )
        )
    if storage.exists(place.child(SPEC)):
        raise unusable(place, "incomplete", f"{HEADER} is missing: not finished", "give the embed command again")
    if storage.exists(place.child(VECTORS)):
        if not storage.exists(place.child(LABELS)):
            return _bare(place.child(VECTORS))
        found = _folder(place, {})
        return _not_empty(EmbeddingStream(place, *found.vector_ND.shape, _npy=found))
    if not storage.exists(place):
        raise StorageError("storage.not-found", f"{place}: no embeddings there", remedy="check the address")
    what = f"holds neither {HEADER} nor {VECTORS}"
    raise unusable(
        place, "absent", what, "give the output of `kinsight embed`, a folder with that file, or a .npy file"
    )


def _folder(place: storage.Address, header: dict[str, Any]) -> _Npy:
    vector_ND, _, uri, columns = npy_parts(place, header)
    # Numbers of our own are the images'; another tool's rows have none but their position.
    kept = columns.select(["id"]) if header else columns.select([])
    return _Npy(vector_ND, columns["labels"], uri, kept)


def _bare(file: storage.Address) -> EmbeddingStream:
    vector_ND = read_npy(file)
    check_npy_vectors(file, vector_ND)
    count, dim = vector_ND.shape
    none = pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], pa.int32()))
    labels = pa.chunked_array([none])
    found = _Npy(vector_ND, labels, pa.chunked_array([pa.repeat("", count)]), pa.table({}))
    return _not_empty(EmbeddingStream(file, count, dim, _npy=found))


def _not_empty(stream: EmbeddingStream) -> EmbeddingStream:
    if not stream.count:
        raise DataError("embeddings.empty", "holds no vector", field=str(stream.place), remedy="embed images first")
    return stream
