"""What `kinsight bench index` searches in, as files in a folder of its own for each set.

    base.npy        float32 (N, D): what is searched; squared distance
    learn.npy       float32 (T, D): queries to find settings with: rows of the base, or of a log of queries
    learn_own.npy   int64 (T,): the row of the base that each of them is, -1 for none; it counts as no result
    query.npy       float32 (Q, D): test queries, read by the final measurement only
    *_near.npy      int32 (T or Q, M): rows no farther than the 10th nearest, nearest first, -1 for none
    log.npy         float32 (P, D): other queries of the past, where there is a log
    set.json        sizes, where it comes from; written last

Shapes: N rows, D dimensions, T learn queries, Q test queries, M nearest rows and those as near as the 10th.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinsight import progress, storage
from kinsight.bench.index.mixture import make_mixture
from kinsight.bench.index.truth import K, nearest
from kinsight.errors import DataError
from kinsight.specs.bench_index import BenchedSet, BenchIndex

_HEADER = "set.json"
_MIXTURE_ROWS = 1_000_000


@dataclass(frozen=True)
class Parts:
    """log_PD: None where there is no log of queries; then settings are found with rows of the base."""

    base_ND: np.ndarray
    query_QD: np.ndarray
    log_PD: np.ndarray | None
    source: str


@dataclass(frozen=True)
class BenchSet:
    """A set in its folder; arrays are memory maps."""

    name: str
    folder: Path
    rows: int
    dim: int
    queries: int
    has_log: bool
    source: str

    def array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def prepare(name: BenchedSet, spec: BenchIndex, folder: Path) -> BenchSet:
    """The set, made where it is not there yet. Raises DataError where its source is missing or another shape."""
    asked = {"max_rows": spec.max_rows, "max_queries": spec.max_queries, "tune_queries": spec.tune_queries}
    header = folder / _HEADER
    if header.exists():
        found = json.loads(header.read_text())
        if found["asked"] == asked:
            return _opened(name, folder, found)
        raise DataError(
            "bench.other-set",
            f"was made with {found['asked']}, asked for is {asked}",
            field=str(folder),
            remedy="choose another output, or remove this folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    parts = _MAKERS[name](spec, folder)
    _write(folder, parts, spec)
    found = {
        "asked": asked,
        "rows": len(parts.base_ND),
        "dim": parts.base_ND.shape[1],
        "queries": len(parts.query_QD),
        "has_log": parts.log_PD is not None,
        "source": parts.source,
    }
    storage.write_text(header, json.dumps(found, indent=1) + "\n")
    return _opened(name, folder, found)


def _opened(name: str, folder: Path, found: dict[str, Any]) -> BenchSet:
    return BenchSet(name, folder, *(found[key] for key in ("rows", "dim", "queries", "has_log", "source")))


def _write(folder: Path, parts: Parts, spec: BenchIndex) -> None:
    """Learn queries are drawn, and the truth of both kinds of queries is found."""
    rng = np.random.default_rng(17)
    base_ND = np.ascontiguousarray(parts.base_ND, np.float32)
    count = min(spec.tune_queries, len(base_ND) // 4)
    if parts.log_PD is None:
        own_T = rng.choice(len(base_ND), count, replace=False)
        learn_TD = base_ND[own_T]
    else:
        order_P = rng.permutation(len(parts.log_PD))
        learn_TD, log_PD = parts.log_PD[order_P[:count]], parts.log_PD[order_P[count:]]
        own_T = np.full(len(learn_TD), -1)
        np.save(folder / "log.npy", log_PD.astype(np.float32))
    query_QD = np.ascontiguousarray(parts.query_QD, np.float32)
    none_Q = np.full(len(query_QD), -1)
    with progress.task(f"truth of {folder.name}", len(query_QD) + len(learn_TD), "queries") as task:
        np.save(folder / "learn_near.npy", nearest(base_ND, learn_TD, own_T, task.advance))
        np.save(folder / "query_near.npy", nearest(base_ND, query_QD, none_Q, task.advance))
    for name, array in (("base", base_ND), ("learn", learn_TD), ("learn_own", own_T), ("query", query_QD)):
        np.save(folder / f"{name}.npy", array)


def _fashion(spec: BenchIndex, folder: Path) -> Parts:
    found = read_npz(spec, "fashion-mnist-784-euclidean.npz", ("train", "test"))
    source = "Fashion-MNIST's pictures as vectors, the set of ann-benchmarks"
    return _cut(spec, found["train"], found["test"], source)


def _sift(spec: BenchIndex, folder: Path) -> Parts:
    found = read_npz(spec, "sift_caltech_100k.npz", ("base", "query"))
    return _cut(spec, found["base"], found["query"], "SIFT descriptors of Caltech pictures")


def _mixture(spec: BenchIndex, folder: Path) -> Parts:
    base_ND, query_QD = make_mixture(spec.max_rows or _MIXTURE_ROWS, spec.max_queries, seed=0)
    return Parts(base_ND, query_QD, None, "made: uneven anisotropic clusters in the manner of SIFT, seed 0")


def _crossing(spec: BenchIndex, folder: Path) -> Parts:
    from kinsight.bench.index.crossing import make_crossing

    found = read_npz(spec, "fashion-mnist-784-euclidean.npz", ("train", "test", "train_label"))
    made = make_crossing(found["train"], found["train_label"], found["test"], spec.max_rows, folder / "model")
    return Parts(made.base_ND, made.query_QD[: spec.max_queries], made.log_PD, made.source)


def _cut(spec: BenchIndex, base_ND: np.ndarray, query_QD: np.ndarray, source: str) -> Parts:
    return Parts(base_ND[: spec.max_rows], query_QD[: spec.max_queries], None, source)


def read_npz(spec: BenchIndex, name: str, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of a file in the data folder. Raises DataError where the file or an array is missing."""
    assert spec.data is not None
    path = storage.copy_in(storage.Address.parse(spec.data).child(name))
    with np.load(path, allow_pickle=False) as file:
        missing = [key for key in wanted if key not in file]
        if missing:
            raise DataError(
                "bench.set", f"has no {', '.join(missing)}", field=str(path), remedy="name the folder of the sets"
            )
        return {key: file[key] for key in wanted}


_MAKERS: dict[BenchedSet, Callable[[BenchIndex, Path], Parts]] = {
    "fashion-mnist-784": _fashion,
    "sift_caltech_100k": _sift,
    "mixture-1m": _mixture,
    "cross-domain": _crossing,
}
assert K == 10
