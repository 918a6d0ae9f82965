"""What stands where in TFRecord files: read once from end to end, checksums compared, and kept in the cache.

With it, any image is one range of its file. An index is kept under the file's address, size and version and the names
of the features, so a file that changed is read again. Nothing is written beside the data; an index that lies there
(`offset length` a line, of whole records) only serves to read parts of a large file at once.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from kinsight import progress, storage
from kinsight.data.arrow import pc
from kinsight.data.kept_tables import keep, kept, kept_file
from kinsight.data.tfrecord.example import Keys, Sample, parse_example
from kinsight.data.tfrecord.framing import CHUNK_BYTES, HEAD_BYTES, read_frames
from kinsight.data.tfrecord.shards import Shard
from kinsight.errors import DataError, StorageError

_VERSION = 1
_PART_BYTES = 64 << 20
_REMOTE_CHUNK_BYTES = 8 << 20
_THREADS_REMOTE, _THREADS_LOCAL = 8, 2

OnBytes = Callable[[int], None]


class ShardIndex(NamedTuple):
    """Records of one file. table: `at` (byte where the record begins), `offset`, `length` (of the image), int64;
    `labels`: lists of int64 or of strings; `texts`: lists of strings; `format`: string.
    """

    shard: Shard
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def place(self, row: int) -> str:
        """A record, for messages."""
        return record_place(self.shard.name, row, self.table["at"][row].as_py())


class _Part(NamedTuple):
    """Bytes start..stop-1 of a shard, whose first record has number `first`."""

    shard: Shard
    start: int
    stop: int
    first: int


def record_place(name: str, number: int, at: int) -> str:
    """A record, for messages."""
    return f"{name}: record {number} (byte {at:,})"


def index_shards(shards: Sequence[Shard], keys: Keys) -> list[ShardIndex]:
    """The index of each file, from the cache where it is known. Raises DataError naming file, record and byte."""
    tables = [kept(_cache_file(shard, keys)) for shard in shards]
    wanted = [shard for shard, table in zip(shards, tables, strict=True) if table is None]
    if wanted:
        total_mb = sum(max(0, shard.size) for shard in wanted) / 1e6
        with progress.task("index", total_mb, "MB") as task:
            made = _made(wanted, keys, lambda count: task.advance(count / 1e6))
            tables = [next(made) if table is None else table for table in tables]
    return [ShardIndex(shard, table) for shard, table in zip(shards, tables, strict=True) if table is not None]


def _made(shards: Sequence[Shard], keys: Keys, on_bytes: OnBytes) -> Iterator[pa.Table]:
    """The tables of shards that nobody knows yet, in order; several are read at once."""
    remote = any(not shard.address.is_local for shard in shards)
    pool = ThreadPoolExecutor(_THREADS_REMOTE if remote else _THREADS_LOCAL, thread_name_prefix="kinsight-index")
    try:
        pending: list[list[Future[pa.Table]]] = [
            [pool.submit(_read_part, part, keys) for part in _parts(shard)] for shard in shards
        ]
        for shard, parts in zip(shards, pending, strict=True):
            table = _joined(shard, parts, keys)
            refuse_changed(shard)
            keep(table, _cache_file(shard, keys))
            on_bytes(max(0, shard.size))
            yield table
    finally:
        pool.shutdown(cancel_futures=True)


def _joined(shard: Shard, parts: Sequence["Future[pa.Table]"], keys: Keys) -> pa.Table:
    try:
        return _one_table([part.result() for part in parts], shard)
    except DataError:
        if len(parts) == 1:
            raise
    # Either the file is damaged, which reading it as a whole tells, or the index beside it lies.
    table = _read_part(_whole(shard), keys)
    progress.warn(f"{shard.sidecar} does not fit {shard.name} and was not used")
    return table


def _one_table(tables: Sequence[pa.Table], shard: Shard) -> pa.Table:
    kinds = {table.schema.field("labels").type for table in tables if len(pc.list_flatten(table["labels"]))}
    if len(kinds) > 1:
        raise _mixed(shard.name)
    kind = next(iter(kinds), pa.list_(pa.int64()))
    return pa.concat_tables([_with_labels(table, kind) for table in tables])


def _with_labels(table: pa.Table, kind: pa.DataType) -> pa.Table:
    place = table.column_names.index("labels")
    return table.set_column(place, "labels", table["labels"].cast(kind))


def read_samples(shard: Shard, keys: Keys) -> Iterator[tuple[bytes, Sample]]:
    """Encoded image and what is said of it, record after record. Raises DataError naming file, record and byte."""
    for _, data, sample in _samples(_whole(shard), keys):
        yield data[sample.offset : sample.offset + sample.length], sample


def _samples(part: _Part, keys: Keys) -> Iterator[tuple[int, bytes, Sample]]:
    """(byte where the message begins, message, sample) of each record."""
    read, name, number = _reader(part.shard), part.shard.name, part.first
    chunk_bytes = CHUNK_BYTES if part.shard.address.is_local else _REMOTE_CHUNK_BYTES
    for start, data in read_frames(
        read, name, start=part.start, stop=part.stop, first=part.first, chunk_bytes=chunk_bytes
    ):
        try:
            yield start, data, parse_example(data, keys)
        except ValueError as error:
            raise DataError(
                "data.tfrecord-example",
                str(error),
                field=record_place(name, number, start - HEAD_BYTES),
                remedy="set image_key, label_key, text_key to the features the file has",
            ) from None
        number += 1


def _read_part(part: _Part, keys: Keys) -> pa.Table:
    at, offsets, lengths, labels, texts, formats = [], [], [], [], [], []
    kinds = set()
    for start, _, sample in _samples(part, keys):
        at.append(start - HEAD_BYTES)
        offsets.append(start + sample.offset)
        lengths.append(sample.length)
        labels.append(sample.labels)
        texts.append(sample.texts)
        formats.append(sample.format)
        if sample.labels:
            kinds.add(type(sample.labels[0]))
    if len(kinds) > 1:
        raise _mixed(part.shard.name)
    return pa.table(
        {
            "at": pa.array(at, pa.int64()),
            "offset": pa.array(offsets, pa.int64()),
            "length": pa.array(lengths, pa.int64()),
            "labels": pa.array(labels, pa.list_(pa.string() if str in kinds else pa.int64())),
            "texts": pa.array(texts, pa.list_(pa.string())),
            "format": pa.array(formats, pa.string()),
        }
    )


def _reader(shard: Shard) -> Callable[[int, int], bytes]:
    if not shard.address.is_local:
        return lambda start, length: storage.read_bytes(shard.address, start=start, length=length)
    path = shard.address.local_path

    def read(start: int, length: int) -> bytes:
        with storage.local_errors(path), path.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(length)

    return read


def _whole(shard: Shard) -> _Part:
    return _Part(shard, 0, shard.size if shard.size >= 0 else len(storage.read_bytes(shard.address)), 0)


def _parts(shard: Shard) -> list[_Part]:
    """The file in parts of at least `_PART_BYTES` where an index beside it tells where records begin."""
    whole = [_whole(shard)]
    if shard.sidecar is None or shard.size < 2 * _PART_BYTES:
        return whole
    begin_N = _sidecar_begins(shard)
    if begin_N is None:
        progress.warn(f"{shard.sidecar} does not fit {shard.name} and is not used")
        return whole
    cut_P = np.unique(np.searchsorted(begin_N, np.arange(0, shard.size - _PART_BYTES, _PART_BYTES)))
    cut_P = cut_P[cut_P < len(begin_N)]  # no record begins behind a last one that is longer than a part
    edges = [*begin_N[cut_P].tolist(), shard.size]
    return [_Part(shard, *span) for span in zip(edges[:-1], edges[1:], cut_P.tolist(), strict=True)]


def _sidecar_begins(shard: Shard) -> np.ndarray | None:
    """int64 bytes at which records begin, if the index beside the file speaks of all of it without gaps."""
    assert shard.sidecar is not None
    try:
        rows = [line.split() for line in storage.read_text(shard.sidecar).splitlines() if line.strip()]
        begin_N, length_N = np.array(rows, np.int64).reshape(-1, 2).T
    except (ValueError, StorageError):
        return None
    end_N = begin_N + length_N
    fits = len(begin_N) and begin_N[0] == 0 and end_N[-1] == shard.size and (begin_N[1:] == end_N[:-1]).all()
    return begin_N if fits and (length_N > 0).all() else None


def refuse_changed(shard: Shard) -> None:
    """Raise StorageError if the file is another by now."""
    found = storage.stat(shard.address)
    if found is None or (found.size, found.version) != (shard.size, shard.version):
        raise StorageError(
            "storage.changed", f"{shard.name}: changed while it was read", remedy="try again once it is complete"
        )


def _cache_file(shard: Shard, keys: Keys) -> Path | None:
    """Where the index is kept; nowhere for a file of which nobody can tell whether it changed."""
    made_from = [_VERSION, shard.address.uri, shard.size, shard.version, astuple(keys)]
    return kept_file("tfrecord", made_from) if shard.version else None


def _mixed(name: str) -> DataError:
    return DataError(
        "data.tfrecord-labels",
        "holds numbers as labels of some records, and texts of others",
        field=name,
        remedy="set label_key to a feature that is the same in all",
    )
