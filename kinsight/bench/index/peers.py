"""hnswlib, ScaNN and usearch.

Shapes: N rows, D dimensions, Q queries, K results.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinsight.bench.index.system import LARGE, Counts, Settings, System, steps

_FILE = "index.bin"


class HnswLib(System):
    """hnswlib: a graph of near neighbours."""

    modules = ("hnswlib",)

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        links = [16] if effort == "quick" or rows > LARGE else [16, 24]
        return [{"m": m, "ef_construction": 100 if rows > LARGE else 200} for m in links]

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        return [{}]

    @classmethod
    def efforts(cls, build: Settings, rows: int) -> Sequence[int]:
        return steps(10, 800)

    def build(self, build: Settings, seed: int, place: Path) -> None:
        index = self._new()
        index.init_index(self.task.rows, ef_construction=build["ef_construction"], M=build["m"], random_seed=100 + seed)
        index.add_items(self.task.base(), num_threads=self.threads)
        index.save_index(str(place / _FILE))

    def load(self, build: Settings, place: Path) -> None:
        self.index = self._new()
        self.index.load_index(str(place / _FILE))
        self.index.set_num_threads(self.threads)

    def search(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> np.ndarray:
        self.index.set_ef(max(effort, k))
        return self.index.knn_query(query_QD, k, num_threads=self.threads)[0].astype(np.int64)

    def _new(self) -> Any:
        return importlib.import_module("hnswlib").Index("l2", self.task.dim)


class Usearch(System):
    """usearch: a graph of near neighbours, in whole numbers or half as long ones."""

    modules = ("usearch",)

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        types = ["f32"] if effort == "quick" or rows > LARGE else ["f32", "bf16"]
        return [{"m": 16, "dtype": each, "ef_construction": 100 if rows > LARGE else 200} for each in types]

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        return [{}]

    @classmethod
    def efforts(cls, build: Settings, rows: int) -> Sequence[int]:
        return steps(10, 800)

    def build(self, build: Settings, seed: int, place: Path) -> None:
        index = self._new(build)
        index.add(np.arange(self.task.rows), self.task.base(), threads=self.threads)
        index.save(str(place / _FILE))

    def load(self, build: Settings, place: Path) -> None:
        self.index = self._new(build)
        self.index.load(str(place / _FILE))

    def search(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> np.ndarray:
        return self._matches(query_QD, k, effort)[1]

    def counts(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> Counts:
        entries = self._matches(query_QD, k, effort)[0].computed_distances / len(query_QD)
        return Counts(entries * self.task.dim, entries, None)

    def _matches(self, query_QD: np.ndarray, k: int, effort: int) -> tuple[Any, np.ndarray]:
        self.index.expansion_search = max(effort, k)
        found = self.index.search(query_QD, k, threads=self.threads)
        key_QK = np.asarray(found.keys).astype(np.int64)
        there_QK = np.arange(k) < np.asarray(found.counts)[:, None]
        return found, np.where(there_QK, key_QK, -1)

    def _new(self, build: Settings) -> Any:
        module = importlib.import_module("usearch.index")
        return module.Index(
            ndim=self.task.dim,
            metric="l2sq",
            dtype=build["dtype"],
            connectivity=build["m"],
            expansion_add=build["ef_construction"],
            enable_key_lookups=False,
        )


class Scann(System):
    """ScaNN: a tree of one level, 4-bit product codes trained with its anisotropic loss, full vectors at the end."""

    modules = ("scann",)

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        roots = [1.0] if effort == "quick" else [1.0, 2.0, 4.0] if rows <= LARGE else [1.0, 2.0]
        anisotropic = 0.2
        return [
            {"leaves": round(root * rows**0.5), "part": 2, "anisotropic": anisotropic, "rows": rows} for root in roots
        ]

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        return [{"refine": factor} for factor in (4, 8, 16)]

    @classmethod
    def efforts(cls, build: Settings, rows: int) -> Sequence[int]:
        return steps(1, max(8, build["leaves"] // 4))

    def build(self, build: Settings, seed: int, place: Path) -> None:
        builder = importlib.import_module("scann").scann_ops_pybind.builder(self.task.base(), 10, "squared_l2")
        rows = self.task.rows
        tree = builder.tree(
            num_leaves=build["leaves"],
            num_leaves_to_search=max(1, build["leaves"] // 20),
            training_sample_size=min(rows, 250 * build["leaves"]),
        )
        coded = tree.score_ah(build["part"], anisotropic_quantization_threshold=build["anisotropic"])
        coded.set_n_training_threads(self.threads).reorder(100).build().serialize(str(place), relative_path=True)

    def load(self, build: Settings, place: Path) -> None:
        self.index = importlib.import_module("scann").scann_ops_pybind.load_searcher(str(place))
        if self.threads > 1:
            self.index.set_num_threads(self.threads)

    def search(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> np.ndarray:
        search = self.index.search_batched if self.threads == 1 else self.index.search_batched_parallel
        row_QK, distance_QK = search(
            query_QD, leaves_to_search=effort, pre_reorder_num_neighbors=k * knob["refine"], final_num_neighbors=k
        )
        return np.where(np.isfinite(distance_QK), row_QK.astype(np.int64), -1)
