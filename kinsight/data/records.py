"""Records: which images there are, and what they show, as one Arrow table without a Python object per image.

Columns: `uri: string`, `labels: list<int32>`, and where the source has them `unknown: list<int32>` (labels of which
nobody knows whether the image shows them), `offset: int64`, `length: int64` (inside a shard, `uri` being the shard),
`group: int64 or string` (track, product, super-class; null for none), `line: int32` (where in the source),
further columns as found.
Saved as an Arrow IPC file and memory-mapped when loaded, so that loader workers share one copy.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kinsight import storage
from kinsight.data.arrow import pc
from kinsight.data.piece_address import piece_address
from kinsight.data.sketch import sketch
from kinsight.data.values import grouping_values
from kinsight.errors import DataError
from kinsight.storage import AddressLike

FORMAT, VERSION = "kinsight-records", 1
OWN_COLUMNS = ("uri", "offset", "length", "labels", "unknown", "group", "line")
_HASHED_COLUMNS = ("uri", "offset", "length", "labels", "unknown", "group")
_ROWS_PER_BLOCK = 1 << 18  # rows hashed or written at once


class Records:
    """Labelled images, in the order of their source.

    table: Arrow table with the columns above. class_names: name of each class number; its length is the number of
    classes. source: what messages call the place the records came from. notes: what reading them decided or left
    out, in sentences for the user.
    """

    def __init__(
        self, table: pa.Table, class_names: Sequence[str] = (), source: str = "records", notes: Sequence[str] = ()
    ) -> None:
        assert table.schema.field("uri").type == pa.string(), table.schema
        assert table.schema.field("labels").type == pa.list_(pa.int32()), table.schema
        self.table = table
        self.class_names = tuple(class_names)
        self.source = source
        self.notes = tuple(notes)
        self._path: str | None = None

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return f"Records({self.source!r}, {len(self)} images, {self.num_classes} classes)"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def uri(self, i: int | np.integer) -> str:
        """Address of the image of record `i`; of one inside a shard `SHARD#bytes=FIRST-LAST`, as `read_image` reads."""
        uri = self._uri_column[int(i)].as_py()
        if self._span is None:
            return uri
        return piece_address(uri, int(self._span[0][int(i)]), int(self._span[1][int(i)]))

    @cached_property
    def uris(self) -> pa.ChunkedArray:
        """All addresses as `uri` gives them."""
        if self._span is None:
            return self._uri_column
        parts = zip(self._uri_column.to_pylist(), *(column.tolist() for column in self._span), strict=True)
        return pa.chunked_array([pa.array([piece_address(*part) for part in parts], pa.string())])

    def place(self, i: int) -> str:
        """Where record `i` stands, for messages: `train.txt:17`, or the image's address where there are no lines."""
        return f"{self.source}:{self.table['line'][int(i)].as_py()}" if self._has("line") else self.uri(i)

    def labels(self, i: int) -> list[int]:
        """Class numbers of record `i`, in the source's order."""
        return self.table["labels"][int(i)].as_py()

    @cached_property
    def label_N(self) -> np.ndarray:
        """int64 class number per record. Raises DataError if a record has not exactly one label."""
        offset_N1, label_M = self.labels_csr
        if (odd := np.flatnonzero(np.diff(offset_N1) != 1)).size:
            raise self._not_single(int(odd[0]), odd.size)
        return label_M

    @cached_property
    def labels_csr(self) -> tuple[np.ndarray, np.ndarray]:
        """All labels in compressed rows, both int64: record i has label_M[offset_N1[i] : offset_N1[i + 1]]."""
        column = self.table["labels"]
        count_N = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        offset_N1 = np.concatenate([[0], np.cumsum(count_N, dtype=np.int64)])
        return offset_N1, pc.list_flatten(column).to_numpy().astype(np.int64)

    @cached_property
    def count_C(self) -> np.ndarray:
        """int64 number of images per class; zero for classes that no image shows."""
        return np.bincount(self.labels_csr[1], minlength=self.num_classes)

    def numbers(self, column: str, *, field: str) -> np.ndarray:
        """int64 numbers of a column's distinct values, -1 where it has none; `field`: the setting that names it.

        Raises DataError where there is no such column, or it holds neither whole numbers nor text.
        """
        if column not in self.table.column_names:
            raise DataError(
                "data.column",
                f"{self.source} has no column {column}; its columns are {', '.join(self.table.column_names)}",
                field=field,
                remedy="set the source's group_column to the column with the super-classes"
                if column == "group"
                else "name a column with the super-classes",
            )
        values = grouping_values(self.table[column])
        if values is None:
            raise DataError(
                "data.column",
                f"column {column} of {self.source} holds {self.table[column].type}: expected whole numbers or text",
                field=field,
                remedy="name another column, or store its values as text",
            )
        return pc.fill_null(values.dictionary_encode().indices, -1).to_numpy().astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over addresses, labels, groups and class names: the same data has the same fingerprint."""
        digest = hashlib.sha256(json.dumps([FORMAT, VERSION, len(self), self.class_names]).encode())
        for name in _HASHED_COLUMNS:
            if self._has(name):
                digest.update(name.encode())
                for block in _blocks(self.table[name]):
                    _hash_block(digest, block)
        return digest.hexdigest()

    @cached_property
    def sketch(self) -> tuple[str, ...]:
        """Hashes of some of the addresses, by which other records can be told to share images with these."""
        return sketch(uri.as_py() for chunk in self.uris.chunks for uri in chunk)

    def take(self, indices: np.ndarray | Sequence[int]) -> "Records":
        """The records at `indices`, in that order, with the same classes."""
        return Records(self.table.take(pa.array(indices, pa.int64())), self.class_names, self.source, self.notes)

    def save(self, address: AddressLike) -> None:
        """Write an Arrow IPC file, which appears whole or not at all. Raises StorageError."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "class_names": self.class_names,
            "source": self.source,
            "notes": self.notes,
        }
        schema = self.table.schema.with_metadata({FORMAT: json.dumps(header, ensure_ascii=False)})
        with storage.open_write(address) as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_table(self.table.cast(schema), max_chunksize=_ROWS_PER_BLOCK)

    @classmethod
    def load(cls, address: AddressLike) -> "Records":
        """Memory-map what `save` wrote. Raises DataError if it is something else, StorageError if it is not there."""
        path = storage.copy_in(address)
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            header = json.loads((table.schema.metadata or {})[FORMAT.encode()])
        except (OSError, pa.ArrowInvalid, KeyError, json.JSONDecodeError) as error:
            raise _not_records(address, f"is not a file of records ({error})") from None
        if header["version"] != VERSION:
            raise _not_records(address, f"is version {header['version']} of {FORMAT}; known is version {VERSION}")
        records = cls(table.replace_schema_metadata(None), header["class_names"], header["source"], header["notes"])
        records._path = str(path.absolute())
        return records

    def mapped(self, path: Path) -> "Records":
        """Save to a local `path` and return the memory-mapped copy, which costs nothing to hand to a process."""
        self.save(path)
        return Records.load(path)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapped file travels by its name: every process then maps the same pages.
        if self._path is not None:
            return Records.load, (self._path,)
        return Records, (self.table, self.class_names, self.source, self.notes)

    @cached_property
    def _uri_column(self) -> pa.ChunkedArray:
        return self.table["uri"]

    @cached_property
    def _span(self) -> tuple[np.ndarray, np.ndarray] | None:
        """int64 offsets and lengths of images inside shards."""
        return (self.table["offset"].to_numpy(), self.table["length"].to_numpy()) if self._has("offset") else None

    def _has(self, name: str) -> bool:
        return name in self.table.column_names

    def _not_single(self, i: int, num_odd: int) -> DataError:
        names = [self.class_names[label] for label in self.labels(i)]
        return not_single(names, num_odd, self.place(i), "give each image one label")


def not_single(names: Sequence[str], num_odd: int, place: str, remedy: str) -> DataError:
    """An image that shows `names` where one is needed; num_odd: how many images there are like it."""
    more = f"; so have {num_odd - 1} more images" if num_odd > 1 else ""
    told = f" ({', '.join(names[:5])})" if names else ""
    what = f"has {len(names)} labels{told} where exactly one is needed{more}"
    return DataError("data.label-count", what, field=place, remedy=remedy)


def _blocks(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """Consecutive rows in blocks of one size, however the column happens to be chunked."""
    for start in range(0, len(column), _ROWS_PER_BLOCK):
        block = column.slice(start, _ROWS_PER_BLOCK).combine_chunks()
        yield pa.concat_arrays(block.chunks) if isinstance(block, pa.ChunkedArray) else block


def _hash_block(digest: Any, block: pa.Array) -> None:
    if pa.types.is_string(block.type):
        block = pc.fill_null(block, "")
        digest.update(pc.binary_length(block).to_numpy(zero_copy_only=False).astype("<i4").tobytes())
        start, end = (int(np.frombuffer(block.buffers()[1], np.int32)[block.offset + i]) for i in (0, len(block)))
        digest.update(memoryview(block.buffers()[2] or b"")[start:end])
    elif pa.types.is_list(block.type):
        digest.update(pc.list_value_length(block).to_numpy(zero_copy_only=False).astype("<i4").tobytes())
        digest.update(block.flatten().to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    else:
        digest.update(pc.fill_null(block, -1).to_numpy(zero_copy_only=False).astype("<i8").tobytes())


def _not_records(address: AddressLike, message: str) -> DataError:
    return DataError("data.records", message, field=str(address), remedy="read the source of the images again")
