"""faiss's own indexes: inverted lists with centres compared or searched by a graph, FastScan with refinement, HNSW.

Shapes: N rows, D dimensions, Q queries, P lists looked into, L lists.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinsight.bench.index.system import LARGE, Counts, Settings, System, Task, members, steps
from kinsight.bench.index.truth import faiss

_FILE = "index.faiss"


class FaissSystem(System):
    """An index that faiss writes and reads."""

    modules = ("faiss",)

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        faiss.omp_set_num_threads(threads)
        self.index: Any = None

    def load(self, build: Settings, place: Path) -> None:
        self.index = faiss.read_index(str(place / _FILE))

    def search(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> np.ndarray:
        self.set(effort, knob)
        return self.index.search(query_QD, k)[1]

    @abstractmethod
    def set(self, effort: int, knob: Settings) -> None:
        """Settings of the searches that follow."""


class IvfFlat(FaissSystem):
    """Inverted lists of whole vectors; every centre is compared."""

    seeded = True

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        return [{"factory": f"IVF{lists},Flat", "lists": lists} for lists in lists_for(rows, effort)]

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        return [{}]

    @classmethod
    def efforts(cls, build: Settings, rows: int) -> Sequence[int]:
        return steps(1, max(8, build["lists"] // 4))

    def build(self, build: Settings, seed: int, place: Path) -> None:
        base_ND = self.task.base()
        index = faiss.index_factory(self.task.dim, build["factory"])
        inverted = faiss.extract_index_ivf(index)
        inverted.cp.seed = 1234 + seed
        inverted.cp.min_points_per_centroid = 1
        index.train(base_ND)
        index.add(base_ND)
        faiss.write_index(index, str(place / _FILE))

    def load(self, build: Settings, place: Path) -> None:
        super().load(build, place)
        self.inverted = faiss.downcast_index(faiss.extract_index_ivf(self.index))
        lists = self.inverted.invlists
        self.size_L = np.array([lists.list_size(number) for number in range(self.inverted.nlist)])

    def set(self, effort: int, knob: Settings) -> None:
        self.inverted.nprobe = effort

    def counts(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> Counts:
        self.set(effort, knob)
        routed_QR, routed_dim = self.routed(query_QD), self.inverted.d
        list_QP, routing = self.route(routed_QR, effort)
        entries_Q = np.where(list_QP >= 0, self.size_L[list_QP], 0).sum(1)
        entries = float(entries_Q.mean())
        before = query_QD.shape[1] * routed_dim if routed_QR is not query_QD else 0
        total = before + routing * routed_dim + self.scanning(entries, effort) + self.refining(k, knob)
        return Counts(total, entries, float(np.quantile(entries_Q, 0.95)))

    def routes(self, query_QD: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        list_QP = self.inverted.quantizer.search(self.routed(query_QD), most)[1]
        return list_QP, members(self.inverted.invlists, self.inverted.nlist, self.task.rows)

    def routed(self, query_QD: np.ndarray) -> np.ndarray:
        return query_QD

    def route(self, routed_QR: np.ndarray, effort: int) -> tuple[np.ndarray, float]:
        """(lists looked into, centres compared for a query)."""
        return self.inverted.quantizer.search(routed_QR, effort)[1], self.inverted.nlist

    def scanning(self, entries: float, effort: int) -> float:
        return entries * self.inverted.d

    def refining(self, k: int, knob: Settings) -> float:
        return 0.0


class IvfHnsw(IvfFlat):
    """Inverted lists of whole vectors; centres are searched by a graph."""

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        return [
            {"factory": f"IVF{lists}_HNSW32,Flat", "lists": lists} for lists in lists_for(rows, effort, more=1)[-3:]
        ]

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        return [{"beam": 1.0}, {"beam": 2.0}]

    def set(self, effort: int, knob: Settings) -> None:
        self.inverted.nprobe = effort
        graph = faiss.downcast_index(self.inverted.quantizer).hnsw
        graph.efSearch = max(16, round(knob["beam"] * effort))

    def route(self, routed_QR: np.ndarray, effort: int) -> tuple[np.ndarray, float]:
        stats = faiss.cvar.hnsw_stats
        stats.reset()
        list_QP = self.inverted.quantizer.search(routed_QR, effort)[1]
        return list_QP, stats.ndis / len(routed_QR)


class IvfFastScan(IvfFlat):
    """Fewer dimensions, inverted lists of 4-bit product codes compared in registers, full vectors for the best."""

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        choice = lists_for(rows, effort)[-2 if rows > LARGE else -3 :]
        kept = [size for size in (64, 96, 128) if size < dim]
        kept = kept[:1] if effort == "quick" or rows > LARGE else kept
        forms = [(f"PCAR{size},IVF{lists},PQ{size // 2}x4fs,RFlat", lists) for lists in choice for size in kept]
        if dim <= 256 and dim % 2 == 0:
            forms += [(f"IVF{lists},PQ{dim // 2}x4fs,RFlat", lists) for lists in choice]
        elif dim % 4 == 0 and effort == "full":
            forms.append((f"IVF{choice[-1]},PQ{dim // 4}x4fs,RFlat", choice[-1]))
        if effort == "full" and len(kept) > 1:
            forms.append((f"OPQ{kept[1] // 2}_{kept[1]},IVF{choice[-2]},PQ{kept[1] // 2}x4fs,RFlat", choice[-2]))
        found: list[Settings] = [{"factory": factory, "lists": lists} for factory, lists in forms]
        return found

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        return [{"refine": factor} for factor in (2, 4, 8, 16)]

    def load(self, build: Settings, place: Path) -> None:
        super().load(build, place)
        self.before = None
        first = faiss.downcast_index(self.index.base_index)
        if isinstance(first, faiss.IndexPreTransform):
            self.before = first.chain.at(0)

    def set(self, effort: int, knob: Settings) -> None:
        self.inverted.nprobe = effort
        self.index.k_factor = float(knob["refine"])

    def routed(self, query_QD: np.ndarray) -> np.ndarray:
        return query_QD if self.before is None else self.before.apply(query_QD)

    def scanning(self, entries: float, effort: int) -> float:
        """Look-ups with their additions, and the tables they look into: 16 entries of every part, made once for a query
        where codes are of whole vectors, for each list where they are of what its centre leaves.
        """
        tables = effort if self.inverted.by_residual else 1
        return entries * self.inverted.pq.M + tables * 16 * self.inverted.d

    def refining(self, k: int, knob: Settings) -> float:
        return k * knob["refine"] * self.task.dim


class Hnsw(FaissSystem):
    """A graph of near neighbours."""

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        return [{"m": 32, "ef_construction": 100 if rows > LARGE else 200}]

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        return [{}]

    @classmethod
    def efforts(cls, build: Settings, rows: int) -> Sequence[int]:
        return steps(10, 800)

    def build(self, build: Settings, seed: int, place: Path) -> None:
        index = faiss.IndexHNSWFlat(self.task.dim, build["m"])
        index.hnsw.efConstruction = build["ef_construction"]
        index.add(self.task.base())
        faiss.write_index(index, str(place / _FILE))

    def set(self, effort: int, knob: Settings) -> None:
        self.index.hnsw.efSearch = effort

    def counts(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> Counts:
        self.set(effort, knob)
        faiss.cvar.hnsw_stats.reset()
        self.index.search(query_QD, k)
        entries = faiss.cvar.hnsw_stats.ndis / len(query_QD)
        return Counts(entries * self.task.dim, entries, None)


def lists_for(rows: int, effort: str, more: int = 0) -> list[int]:
    """Numbers of lists worth trying, each at least 24 rows long on average; `more`: further ones beyond."""
    bounded = [lists for lists in (256, 512, 1024, 2048, 4096, 8192) if lists * 24 <= rows and lists**2 <= 50 * rows]
    bounded = (bounded or [16, 32, 64])[-3 if rows > LARGE else -4 :]
    if more:
        bounded = [*bounded, 2 * bounded[-1]]
    return bounded[-1:] if effort == "quick" else bounded
