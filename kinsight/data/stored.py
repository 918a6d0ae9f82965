"""Reading stored embeddings, ours or another tool's, checked before anyone computes with them."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kinsight import storage
from kinsight.data.npy_faults import kind_of, why_not_npy
from kinsight.data.vectors import (
    FORMAT,
    HEADER,
    LABELS,
    SPEC,
    URIS,
    VECTORS,
    VERSION,
    flat_vectors,
    shard_name,
    single_labels,
)
from kinsight.errors import DataError, KinsightError

_COLUMNS = {
    "id": pa.types.is_int64,
    "labels": pa.types.is_list,
    "uri": pa.types.is_string,
    "vector": lambda kind: pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type),
}


@dataclass(frozen=True)
class Embeddings:
    """vector_ND: float32. label_N: int64, -1 for none. uri_N: strings, empty where unknown. class_names: by label;
    none where only numbers are known. header: see `vectors`; empty for another tool's files.
    columns: Arrow table with `id` (int64, the image's number in its source), `labels` (lists of integers, none or
    several in each) and the further columns of the source.
    """

    vector_ND: Tensor
    label_N: Tensor
    uri_N: pa.ChunkedArray
    class_names: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)
    columns: pa.Table = field(default_factory=lambda: pa.table({}))


def load_embeddings(address: storage.AddressLike) -> Embeddings:
    """Embeddings at an address: what `kinsight embed` wrote, or a folder with `vectors.npy` and `labels.npy`.

    Raises StorageError where nothing is, DataError for what is incomplete, altered, empty or of another format.
    """
    place = storage.Address.parse(address)
    if storage.exists(place.child(HEADER)):
        header = read_header(place.child(HEADER))
        found = from_npy(place, header) if header["storage"] == "npy" else _from_shards(place, header)
    elif storage.exists(place.child(SPEC)):
        raise unusable(place, "incomplete", f"{HEADER} is missing: not finished", "give the embed command again")
    elif storage.exists(place.child(VECTORS)) and storage.exists(place.child(LABELS)):
        found = from_npy(place, {})
    else:
        what = f"holds neither {HEADER} nor {VECTORS} with {LABELS}"
        raise unusable(place, "absent", what, "give the output of `kinsight embed`, or a folder with those files")
    if not len(found.label_N):
        raise unusable(place, "empty", "holds no vector", "embed images first")
    if found.class_names and int(found.label_N.max()) >= len(found.class_names):
        raise altered(place, f"holds label {int(found.label_N.max())}, but {len(found.class_names)} class names")
    return found


def read_header(file: storage.Address) -> dict[str, Any]:
    """The header of our own embeddings. Raises DataError."""
    text = storage.read_text(file)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise altered(file, f"is no JSON ({error})") from None
    known = header if isinstance(header, dict) else {}
    if known.get("format") != FORMAT or known.get("version") != VERSION:
        found = f"is {known.get('format')} version {known.get('version')}, expected {FORMAT} {VERSION}"
        raise unusable(file, "header", found, "use the version of kinsight that wrote it, or embed again")
    types = {"storage": str, "count": int, "dim": int, "shards": int, "class_names": list}
    for name, type_ in types.items():
        if not isinstance(known.get(name), type_):
            raise altered(file, f"{name} is {known.get(name)!r}")
    return known


def _from_shards(place: storage.Address, header: dict[str, Any]) -> Embeddings:
    count, dim = header["count"], header["dim"]
    vector_ND = torch.empty(count, dim)  # filled shard by shard: joining them would take it twice
    label_N = torch.empty(count, dtype=torch.int64)
    kept, start = [], 0
    for number in range(header["shards"]):
        table = read_shard(place.child(shard_name(number)), dim)
        stop = start + len(table)
        if stop > count:
            raise altered(place, f"holds {stop} vectors or more, the header says {count}")
        vector_ND[start:stop] = torch.from_numpy(flat_vectors(table).reshape(-1, dim).copy())
        label_N[start:stop] = torch.from_numpy(single_labels(table))
        kept.append(table.drop_columns(["vector"]))
        start = stop
    if start != count:
        raise altered(place, f"holds {start} vectors, the header says {count}")
    try:
        columns = pa.concat_tables(kept)
    except pa.ArrowInvalid as error:
        raise altered(place, f"has shards of different columns: {error}") from None
    names = tuple(header["class_names"])
    return Embeddings(vector_ND, label_N, columns["uri"], names, header, columns.drop_columns(["uri"]))


def read_shard(address: storage.Address, dim: int) -> pa.Table:
    """One Parquet shard, its columns checked. Raises DataError."""
    try:
        with storage.open_read(address) as stream:
            table = pq.read_table(stream)
    except (pa.ArrowException, OSError) as error:
        raise altered(address, f"is not a readable shard: {error}") from None
    for name, fits in _COLUMNS.items():
        if name not in table.column_names or not fits(table.schema.field(name).type) or table[name].null_count:
            raise altered(address, f"has no column {name!r} as embeddings have it")
    if table.schema.field("vector").type.list_size != dim:
        found = table.schema.field("vector").type.list_size
        raise altered(address, f"holds vectors of length {found}, the header says {dim}")
    return table


def num_rows(address: storage.Address) -> int:
    """How many rows a shard holds; only its end is read. Raises DataError."""
    try:
        with storage.open_read(address) as stream:
            return pq.ParquetFile(stream).metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise altered(address, f"is not a readable shard: {error}") from None


def read_column(address: storage.Address, name: str) -> pa.ChunkedArray:
    """One column of a shard. Raises DataError."""
    try:
        with storage.open_read(address) as stream:
            return pq.read_table(stream, columns=[name])[name]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise altered(address, f"has no readable column {name!r}: {error}") from None


def from_npy(place: storage.Address, header: dict[str, Any]) -> Embeddings:
    """Embeddings kept as npy files. Raises DataError."""
    vector_ND, label_N, uri_N, columns = npy_parts(place, header)
    vectors, labels = torch.from_numpy(np.array(vector_ND, np.float32)), torch.from_numpy(np.array(label_N, np.int64))
    return Embeddings(vectors, labels, uri_N, tuple(header.get("class_names", ())), header, columns)


def npy_parts(
    place: storage.Address, header: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, pa.ChunkedArray, pa.Table]:
    """Vectors (memory-mapped), labels, addresses and the columns `id` and `labels`. Raises DataError."""
    vector_ND, label_N = read_npy(place.child(VECTORS)), read_npy(place.child(LABELS))
    if vector_ND.ndim != 2 or label_N.shape != vector_ND.shape[:1]:
        found = f"{VECTORS} is {vector_ND.shape}, {LABELS} is {label_N.shape}; expected (N, D) and (N,)"
        raise unusable(place, "shape", found, "write one row and one label per image")
    if vector_ND.dtype.kind not in "fiu" or label_N.dtype.kind not in "iu":
        found = f"{VECTORS} holds {vector_ND.dtype}, {LABELS} holds {label_N.dtype}; expected numbers and integers"
        raise unusable(place, "type", found, "write float32 vectors and int64 labels")
    if header and len(label_N) != header["count"]:
        raise altered(place, f"holds {len(label_N)} vectors, the header says {header['count']}")
    known_N = label_N >= 0
    offsets = np.concatenate([[0], np.cumsum(known_N)]).astype(np.int32)
    labels = pa.ListArray.from_arrays(offsets, pa.array(label_N[known_N], pa.int64()))
    columns = pa.table({"id": np.arange(len(label_N)), "labels": labels})
    return vector_ND, label_N, _uris(place, len(label_N)), columns


def _uris(place: storage.Address, count: int) -> pa.ChunkedArray:
    if not storage.exists(place.child(URIS)):
        return pa.chunked_array([pa.repeat("", count)])
    lines = storage.read_text(place.child(URIS)).removesuffix("\n").split("\n")
    if len(lines) != count:
        raise altered(place.child(URIS), f"has {len(lines)} lines for {count} vectors")
    return pa.chunked_array([pa.array(lines, pa.string())])


def check_npy_vectors(file: storage.Address, vector_ND: np.ndarray) -> None:
    """Raise DataError unless this is a matrix of real numbers."""
    if vector_ND.dtype.kind not in "fiu":
        what = f"holds {kind_of(vector_ND.dtype)} ({vector_ND.dtype}); expected numbers, floats or integers"
        raise unusable(file, "type", what, "write float32 vectors, one row per image")
    if vector_ND.ndim != 2:
        found = f"is {vector_ND.dtype} {vector_ND.shape}; expected numbers (N, D)"
        raise unusable(file, "shape", found, "write one row per image")


def read_npy(address: storage.Address) -> np.ndarray:
    """An npy file, memory-mapped. Raises DataError for what is none, is truncated, or holds objects."""
    path = storage.copy_in(address)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, KinsightError):
            raise
        why, remedy = why_not_npy(path) or (str(error), "write it with numpy.save")
        raise unusable(address, "npy", f"is not a plain npy file: {why}", remedy) from None
    if not isinstance(array, np.ndarray):
        raise unusable(address, "npy", "is an archive of arrays", "write it with numpy.save, not numpy.savez")
    return array


def altered(place: storage.Address, what: str) -> DataError:
    """The error for embeddings that are not as they were written."""
    return unusable(place, "altered", what, "copy it again, or embed again")


def unusable(place: storage.Address, code: str, what: str, remedy: str) -> DataError:
    """The error for embeddings that cannot be used."""
    return DataError(f"embeddings.{code}", what, field=str(place), remedy=remedy)
