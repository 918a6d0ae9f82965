"""Vectors, embeddings and indexes for the tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from kinsight.data import vectors
from kinsight.indexing import Index, build

KINDS = ("flat", "hnsw", "ivf", "ivf-pq")
METRICS = ("cosine", "ip", "l2")


def grouped(count: int, dim: int = 24, seed: int = 0) -> np.ndarray:
    """float32 (count, dim): vectors of different lengths around 40 directions, some of them equal."""
    rng = np.random.default_rng(seed)
    centre_CD = np.random.default_rng(99).standard_normal((40, dim))
    vector_ND = centre_CD[rng.integers(0, 40, count)] + 0.5 * rng.standard_normal((count, dim))
    if count > 20:
        vector_ND[count // 2 : count // 2 + 5] = vector_ND[:5]
    return (vector_ND * rng.uniform(0.5, 2, (count, 1))).astype(np.float32)


def queries(count: int = 30, dim: int = 24) -> torch.Tensor:
    return torch.from_numpy(grouped(count, dim, seed=7))


def store(
    folder: Path,
    vector_ND: np.ndarray,
    *,
    model: str = "runs/first",
    model_hash: str | None = "a" * 64,
    normalized: bool = False,
    names: tuple[str, ...] = ("cat", "dog, big", "<b>Ölpumpe</b>"),
    extra: dict[str, Any] | None = None,
    first: int = 0,
) -> Path:
    """Embeddings as `kinsight embed` writes them, in shards of 700."""
    folder.mkdir(parents=True)
    count, shards = len(vector_ND), range(0, len(vector_ND), 700)
    for number, start in enumerate(shards):
        here = range(start, min(start + 700, count))
        labels = pa.array([[row % len(names)] if row % 5 else [0, 1] for row in here], pa.list_(pa.int32()))
        uris = pa.array([f"images/{first + row}.png" for row in here])
        table = pa.table({name: pa.array(values[start : here.stop]) for name, values in (extra or {}).items()})
        vectors.write_shard(
            folder / vectors.shard_name(number),
            np.arange(first, first + count)[start : here.stop],
            labels,
            uris,
            torch.from_numpy(vector_ND[start : here.stop]),
            table if extra else None,
        )
    header = {
        "storage": "parquet",
        "count": count,
        "dim": vector_ND.shape[1],
        "shards": len(shards),
        "normalized": normalized,
        "class_names": names,
        "model": model,
        "model_hash": model_hash,
    }
    vectors.write_header(folder, header)
    return folder


def built(folder: Path, vector_ND: np.ndarray, *, name: str = "index", **settings: Any) -> Index:
    """An index over vectors of another tool."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", vector_ND)
    build({"embeddings": str(folder / f"{name}.npy"), "output": str(folder / name), **settings})
    return Index.open(folder / name)
