"""Stored embeddings a block at a time, for those who do not need all of them in memory at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kinsight import storage
from kinsight.data.stored import (
    Embeddings,
    altered,
    check_npy_vectors,
    from_npy,
    read_column,
    read_header,
    read_npy,
    read_shard,
    unusable,
)
from kinsight.data.vectors import HEADER, LABELS, SHARD_ROWS, SPEC, VECTORS, flat_vectors, shard_name
from kinsight.errors import DataError

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
    _whole: Embeddings | np.ndarray | None = None

    def blocks(self) -> Iterator[Block]:
        """All vectors in order, some ten thousand at a time. Raises DataError where a part is altered or missing."""
        if isinstance(self._whole, np.ndarray):
            yield from _bare_blocks(self._whole)
        elif self._whole is not None:
            yield from _blocks_of(self._whole)
        else:
            yield from self._shards()

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all vectors, without reading the vectors where they are in shards."""
        if self._whole is None:
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


def open_embeddings(address: storage.AddressLike) -> EmbeddingStream:
    """Embeddings at an address: as `load_embeddings` takes them, a folder with `vectors.npy` alone, or one .npy file.

    Raises as `load_embeddings`.
    """
    place = storage.Address.parse(address)
    if place.name.endswith(".npy"):
        return _bare(place)
    if storage.exists(place.child(HEADER)):
        header = read_header(place.child(HEADER))
        names = tuple(header["class_names"])
        if header["storage"] != "npy":
            return _not_empty(EmbeddingStream(place, header["count"], header["dim"], names, header))
        found = from_npy(place, header)
        return _not_empty(EmbeddingStream(place, len(found.label_N), header["dim"], names, header, found))
    if storage.exists(place.child(SPEC)):
        raise unusable(place, "incomplete", f"{HEADER} is missing: not finished", "give the embed command again")
    if storage.exists(place.child(VECTORS)) and storage.exists(place.child(LABELS)):
        found = from_npy(place, {})
        return _not_empty(EmbeddingStream(place, len(found.label_N), found.vector_ND.shape[1], _whole=found))
    if storage.exists(place.child(VECTORS)):
        return _bare(place.child(VECTORS))
    what = f"holds neither {HEADER} nor {VECTORS}"
    raise unusable(
        place, "absent", what, "give the output of `kinsight embed`, a folder with that file, or a .npy file"
    )


def _bare(file: storage.Address) -> EmbeddingStream:
    vector_ND = read_npy(file)
    check_npy_vectors(file, vector_ND)
    return _not_empty(EmbeddingStream(file, len(vector_ND), vector_ND.shape[1], _whole=vector_ND))


def _bare_blocks(vector_ND: np.ndarray) -> Iterator[Block]:
    for start in range(0, len(vector_ND), SHARD_ROWS):
        part_BD = np.array(vector_ND[start : start + SHARD_ROWS], np.float32)
        labels = pa.chunked_array([pa.array([[]] * len(part_BD), pa.list_(pa.int32()))])
        yield Block(part_BD, labels, pa.chunked_array([pa.repeat("", len(part_BD))]), pa.table({}))


def _blocks_of(found: Embeddings) -> Iterator[Block]:
    for start in range(0, len(found.label_N), SHARD_ROWS):
        part = found.columns.slice(start, SHARD_ROWS)
        vector_BD = found.vector_ND[start : start + SHARD_ROWS].numpy()
        columns = part.drop_columns(["labels"]) if found.header else pa.table({})
        yield Block(vector_BD, part["labels"], found.uri_N.slice(start, SHARD_ROWS), columns)


def _not_empty(stream: EmbeddingStream) -> EmbeddingStream:
    if not stream.count:
        raise DataError("embeddings.empty", "holds no vector", field=str(stream.place), remedy="embed images first")
    return stream
