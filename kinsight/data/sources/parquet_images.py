"""Parquet files with the images themselves in a column, plain or as `struct<bytes, path>`: each is a range of its file.

Only columns without compression and dictionary hold images in one piece each; encoded images gain nothing by either.
Where they lie is found once, by reading the column, and kept in the cache.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import progress, storage
from kinsight.data.arrow import pc
from kinsight.data.kept_tables import keep, kept, kept_file
from kinsight.data.sources.columns import parsed_table, wanted_columns
from kinsight.data.sources.parsed import Parsed
from kinsight.data.tfrecord.shard_index import refuse_changed
from kinsight.data.tfrecord.shards import Shard, find_shards
from kinsight.errors import DataError
from kinsight.specs.data import Parquet

_VERSION = 1
_WILD = "*?["
_BEGINNING = 64  # bytes of an image that are searched for


def holds_images(source: Parquet) -> bool:
    """Whether the source names files with images inside, or several files."""
    address = storage.Address.parse(source.path)
    if any(mark in address.path for mark in _WILD) and address.scheme not in ("http", "https"):
        return storage.stat(address) is None
    if storage.stat(address) is None:
        return False
    try:
        with storage.open_read(address) as stream:
            return _image_path(pq.ParquetFile(stream).schema_arrow, source.image_column) is not None
    except (pa.ArrowException, OSError):
        return False


def read_parquet_images(source: Parquet, *, labelled: bool) -> Parsed:
    """All rows of the files. Raises DataError naming file and row; StorageError."""
    shards = find_shards(source.path)
    tables, spans = [], []
    with progress.task("index", sum(max(0, shard.size) for shard in shards) / 1e6, "MB") as task:
        for shard in shards:
            table, span = _open(shard, source, labelled=labelled)
            tables.append(table)
            spans.append(span)
            task.advance(max(0, shard.size) / 1e6)
    count_S = [len(table) for table in tables]
    start_S1 = np.cumsum([0, *count_S])

    def place(i: int) -> str:
        shard = int(np.searchsorted(start_S1, i, side="right")) - 1
        return f"{shards[shard].name} row {i - int(start_S1[shard]) + 1}"

    try:
        joined, span = pa.concat_tables(tables), pa.concat_tables(spans)
    except pa.ArrowInvalid as error:
        raise DataError("data.parquet", f"files of different columns: {error}", field=source.path) from None
    if not len(joined):
        raise DataError("data.list-empty", "holds no row", field=source.path, remedy="fill it")
    parsed = parsed_table(joined, source, place, labelled=labelled)
    return replace(parsed, offset_N=span["offset"].to_numpy(), length_N=span["length"].to_numpy())


def _open(shard: Shard, source: Parquet, *, labelled: bool) -> tuple[pa.Table, pa.Table]:
    """The columns beside the images, the file's address in the place of these, and where the images lie."""
    try:
        with storage.open_read(shard.address) as stream:
            file = pq.ParquetFile(stream)
            names = file.schema_arrow.names
            wanted_columns(source, names, shard.name, labelled=labelled)
            if (path := _image_path(file.schema_arrow, source.image_column)) is None:
                raise _unusable(shard, f"column {source.image_column!r} holds no images", "name files of one kind")
            rest = file.read([name for name in names if name != source.image_column])
            uris = pa.repeat(shard.address.uri, file.metadata.num_rows)
            return rest.append_column(source.image_column, uris), _spans(shard, file, path)
    except (pa.ArrowException, OSError) as error:
        raise _unusable(shard, f"is not a readable Parquet file ({error})", "write it anew") from None


def _spans(shard: Shard, file: pq.ParquetFile, path: str) -> pa.Table:
    where = (
        kept_file("parquet", [_VERSION, shard.address.uri, shard.size, shard.version, path]) if shard.version else None
    )
    if (known := kept(where)) is not None:
        return known
    offsets: list[int] = []
    lengths: list[int] = []
    for group in range(file.num_row_groups):
        images = file.read_row_group(group, columns=[path])[path.partition(".")[0]]
        if "." in path:
            images = pc.struct_field(images, "bytes")
        if images.null_count:
            row = len(offsets) + int(np.flatnonzero(images.is_null().to_numpy())[0]) + 1
            raise DataError(
                "data.path-missing", "has no image", field=f"{shard.name} row {row}", remedy="remove the row"
            )
        offsets += _found(shard, _chunk(file, group, path), images, len(offsets))
        lengths += pc.binary_length(images).to_pylist()
    refuse_changed(shard)
    table = pa.table({"offset": pa.array(offsets, pa.int64()), "length": pa.array(lengths, pa.int64())})
    keep(table, where)
    return table


def _chunk(file: pq.ParquetFile, group: int, path: str) -> Any:
    columns = (file.metadata.row_group(group).column(number) for number in range(file.metadata.num_columns))
    return next(column for column in columns if column.path_in_schema == path)


def _found(shard: Shard, chunk: Any, images: pa.ChunkedArray, first: int) -> list[int]:
    """Byte of the file at which each image of a column chunk begins."""
    remedy = "write it anew without (pyarrow: compression='NONE', use_dictionary=False), or convert from the files"
    if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
        what = "a dictionary" if chunk.has_dictionary_page else f"compression ({chunk.compression})"
        raise _unusable(shard, f"the images have {what}, so that none is one piece of the file", remedy)
    base = chunk.data_page_offset
    data = storage.read_bytes(shard.address, start=base, length=chunk.total_compressed_size)
    at, offsets = 0, []
    for row, image in enumerate((value.as_py() for value in images), first + 1):
        beginning = len(image).to_bytes(4, "little") + image[:_BEGINNING]
        at = data.find(beginning, at)
        while at >= 0 and not data.startswith(image, at + 4):
            at = data.find(beginning, at + 1)
        if at < 0:
            raise _unusable(shard, f"the image of row {row} is not one piece of the file", remedy)
        offsets.append(base + at + 4)
        at += 4 + len(image)
    return offsets


def _image_path(schema: pa.Schema, column: str) -> str | None:
    """The column of bytes, as Parquet names it; None if there is no such column or it holds something else."""
    if schema.names.count(column) != 1:
        return None
    kind = schema.field(column).type
    if _is_bytes(kind):
        return column
    inner: Sequence[str] = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    return f"{column}.bytes" if "bytes" in inner and _is_bytes(kind.field("bytes").type) else None


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _unusable(shard: Shard, what: str, remedy: str) -> DataError:
    return DataError("data.parquet", what, field=shard.name, remedy=remedy)
