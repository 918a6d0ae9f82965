"""Stored embeddings: vectors with their labels and addresses, and a header that says what they are.

    embeddings.json      format, version, count, length, classes, model hash, the job's settings; written last
    part-00000.parquet   id: int64, labels: list<int32>, uri: string, vector: fixed-size list of float32,
                         and the further columns of the images' source
or, for interchange with other tools, `vectors.npy` (float32, N x D), `labels.npy` (int64, N; -1: none), `uris.txt`.
`id` is the image's number in its source, from 0; images that could not be read leave gaps.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from kinsight import storage
from kinsight.data import records

FORMAT = "kinsight-embeddings"
VERSION = 1
HEADER = "embeddings.json"
SPEC = "spec.yaml"
VECTORS, LABELS, URIS = "vectors.npy", "labels.npy", "uris.txt"
# What an interruption costs at most, and what is held in memory at once (128 MiB at length 2048).
SHARD_ROWS = 16_384
OWN_COLUMNS = ("id", "labels", "uri", "vector")


def shard_name(number: int) -> str:
    """File name of shard `number`."""
    return f"part-{number:05d}.parquet"


def further_columns(table: pa.Table) -> pa.Table:
    """What a source tells of its images beyond addresses and labels: groups and its further columns."""
    own = {*OWN_COLUMNS, *records.OWN_COLUMNS} - {"group"}
    return table.select([name for name in table.column_names if name not in own])


def write_shard(
    path: Path,
    id_N: np.ndarray,
    labels_N: pa.Array,
    uri_N: pa.Array,
    vector_ND: Tensor,
    extra: pa.Table | None = None,
) -> None:
    """Write one Parquet shard, which appears whole or not at all. vector_ND: float32. extra: further columns.

    Raises StorageError.
    """
    flat = pa.array(vector_ND.contiguous().view(-1).numpy())
    vectors = pa.FixedSizeListArray.from_arrays(flat, vector_ND.shape[1])
    table = pa.table({"id": pa.array(id_N, pa.int64()), "labels": labels_N, "uri": uri_N, "vector": vectors})
    if extra is not None:
        for name in extra.column_names:
            table = table.append_column(name, extra[name])
    with storage.open_write(path) as file:
        # Vectors do not compress, and a dictionary of unique values only costs time.
        pq.write_table(table, file, compression="none", use_dictionary=False)


def write_header(folder: Path, fields: dict[str, Any]) -> None:
    """Write the header; the embeddings are complete after this."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **fields}, indent=1, ensure_ascii=False)
    storage.write_text(folder / HEADER, text + "\n")


def write_npy(folder: Path, shards: int, rows: int, dim: int) -> None:
    """The shards of `folder` again, as npy files beside them; a shard at a time in memory. Raises StorageError."""
    with storage.local_errors(folder), storage.open_write(folder / URIS) as uris:
        vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", np.float32, (rows, dim))
        labels = np.full(rows, -1, np.int64)
        start = 0
        for number in range(shards):
            table = pq.read_table(folder / shard_name(number))
            stop = start + len(table)
            vectors[start:stop] = flat_vectors(table).reshape(-1, dim)
            labels[start:stop] = single_labels(table)
            uris.writelines(f"{_one_line(uri)}\n".encode() for uri in table["uri"].to_pylist())
            start = stop
        vectors.flush()
        with storage.open_write(folder / LABELS) as file:
            np.lib.format.write_array(file, labels, allow_pickle=False)


def flat_vectors(table: pa.Table) -> np.ndarray:
    """The numbers of a shard's vectors, float32, one after the other."""
    return table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)


def single_labels(table: pa.Table) -> np.ndarray:
    """int64 label of each row of a shard; -1 where there is none, or several."""
    column = table["labels"].combine_chunks()
    count_N = np.diff(column.offsets.to_numpy())
    label_N = np.full(len(count_N), -1, np.int64)
    label_N[count_N == 1] = column.values.to_numpy()[column.offsets.to_numpy()[:-1][count_N == 1]]
    return label_N


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
