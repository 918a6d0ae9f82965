"""Stored embeddings: vectors with their labels and addresses, and a header that says what they are.

    embeddings.json      format, version, count, length, classes, model hash, the job's settings; written last
    part-00000.parquet   id: int64, labels: list<int32>, uri: string, vector: fixed-size list of float32
or, for interchange with other tools, `vectors.npy` (float32, N x D), `labels.npy` (int64, N; -1: none), `uris.txt`.
A folder with `vectors.npy` and `labels.npy` and no header, from anywhere, can be read too.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kinsight import storage
from kinsight.errors import DataError

FORMAT = "kinsight-embeddings"
VERSION = 1
HEADER = "embeddings.json"
SHARD_ROWS = 65_536


@dataclass(frozen=True)
class Embeddings:
    """vector_ND: float32. label_N: int64, -1 for none. uri_N: addresses; empty where unknown. header: see above."""

    vector_ND: Tensor
    label_N: Tensor
    uri_N: list[str]
    class_names: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)


def shard_name(number: int) -> str:
    """File name of shard `number`."""
    return f"part-{number:05d}.parquet"


def write_shard(path: Path, id_N: np.ndarray, labels_N: pa.Array, uri_N: pa.Array, vector_ND: np.ndarray) -> None:
    """Write one Parquet shard, atomically. Raises StorageError."""
    flat = pa.array(np.ascontiguousarray(vector_ND, np.float32).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, vector_ND.shape[1])
    table = pa.table({"id": pa.array(id_N, pa.int64()), "labels": labels_N, "uri": uri_N, "vector": vectors})
    sink = pa.BufferOutputStream()
    # Vectors do not compress, and a dictionary of unique values only costs time.
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    storage.write_bytes(path, memoryview(sink.getvalue()))


def write_header(folder: Path, fields: dict[str, Any]) -> None:
    """Write the header; the embeddings are complete after this."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **fields}, indent=1, ensure_ascii=False)
    storage.write_text(folder / HEADER, text + "\n")


def to_npy(folder: Path, shards: int, rows: int, dim: int) -> None:
    """Turn the shards of `folder` into npy files and remove them."""
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, dim))
    labels = np.full(rows, -1, np.int64)
    uris: list[str] = []
    start = 0
    for number in range(shards):
        part = _shard(pq.read_table(folder / shard_name(number)), folder / shard_name(number))
        stop = start + len(part.label_N)
        vectors[start:stop], labels[start:stop] = part.vector_ND.numpy(), part.label_N.numpy()
        uris += part.uri_N
        start = stop
    vectors.flush()
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    storage.write_text(folder / "uris.txt", "".join(f"{uri}\n" for uri in uris))
    for number in range(shards):
        (folder / shard_name(number)).unlink()


def load_embeddings(address: str) -> Embeddings:
    """Stored embeddings at an address. Raises StorageError where nothing is, DataError for what cannot be read."""
    place = storage.Address.parse(address)
    if storage.exists(place.child(HEADER)):
        return _with_header(place)
    if storage.exists(place.child("vectors.npy")) and storage.exists(place.child("labels.npy")):
        return _from_npy(place, {})
    raise DataError(
        "embeddings.absent",
        f"holds neither {HEADER} nor vectors.npy with labels.npy",
        field=str(place),
        remedy="give what `kinsight embed` wrote (complete: its header is written last), or a folder with those files",
    )


def _with_header(place: storage.Address) -> Embeddings:
    try:
        header = json.loads(storage.read_text(place.child(HEADER)))
    except ValueError:
        header = {}
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise DataError(
            "embeddings.header",
            f"is {header.get('format')} version {header.get('version')}, expected {FORMAT} {VERSION}",
            field=str(place.child(HEADER)),
            remedy="use the version of kinsight that wrote it, or embed again",
        )
    if header["storage"] == "npy":
        return _from_npy(place, header)
    parts = [_read_shard(place.child(shard_name(number))) for number in range(header["shards"])]
    count = sum(len(part.label_N) for part in parts)
    if count != header["count"]:
        raise DataError("embeddings.altered", f"{count} vectors, the header says {header['count']}", field=str(place))
    return Embeddings(
        torch.cat([part.vector_ND for part in parts]) if parts else torch.zeros(0, header["dim"]),
        torch.cat([part.label_N for part in parts]) if parts else torch.zeros(0, dtype=torch.int64),
        [uri for part in parts for uri in part.uri_N],
        tuple(header["class_names"]),
        header,
    )


def _read_shard(address: storage.Address) -> Embeddings:
    try:
        with storage.open_read(address) as stream:
            return _shard(pq.read_table(stream), address)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("embeddings.altered", f"not a readable shard: {error}", field=str(address)) from None


def _shard(table: pa.Table, place: object) -> Embeddings:
    if not {"labels", "uri", "vector"} <= set(table.column_names):
        raise DataError("embeddings.altered", f"columns {table.column_names}", field=str(place))
    vectors = table["vector"].combine_chunks()
    dim = vectors.type.list_size
    vector_ND = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    lists = table["labels"].to_pylist()
    label_N = np.array([labels[0] if len(labels) == 1 else -1 for labels in lists], np.int64)
    return Embeddings(torch.from_numpy(vector_ND.copy()), torch.from_numpy(label_N), table["uri"].to_pylist())


def _from_npy(place: storage.Address, header: dict[str, Any]) -> Embeddings:
    vector_ND, label_N = _npy(place.child("vectors.npy")), _npy(place.child("labels.npy"))
    if vector_ND.ndim != 2 or label_N.shape != vector_ND.shape[:1]:
        raise DataError(
            "embeddings.shape",
            f"vectors.npy is {vector_ND.shape}, labels.npy is {label_N.shape}; expected (N, D) and (N,)",
            field=str(place),
        )
    uris = storage.read_text(place.child("uris.txt")).splitlines() if storage.exists(place.child("uris.txt")) else []
    names = tuple(header.get("class_names", ()))
    vectors = torch.from_numpy(np.array(vector_ND, np.float32))
    return Embeddings(vectors, torch.from_numpy(label_N.astype(np.int64)), uris or [""] * len(label_N), names, header)


def _npy(address: storage.Address) -> np.ndarray:
    try:
        return np.load(storage.copy_in(address), mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise DataError("embeddings.npy", f"not a plain npy file: {error}", field=str(address)) from None
