"""Kinsight's learned index: `kinsight partition`, `kinsight index build --partition`, `Index.search`.

A log of queries, where the set has one, goes to `partition --queries`. Partitions are shared by all ways of building on
them. Shapes: Q queries, D dimensions, K results, L lists, P lists of a query.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinsight.bench.index.store_key import key_of
from kinsight.bench.index.system import LARGE, Counts, Settings, Spent, System, Task, members, peak_mb, steps
from kinsight.indexing import Index
from kinsight.indexing import build as build_index
from kinsight.indexing.learned import Learned
from kinsight.indexing.settings import Level
from kinsight.partition import learn

_SHORT, _LONG = 96, 256  # dimensions
_SPENT = "spent.json"
_REFINE: dict[tuple[str, bool], tuple[float, ...]] = {
    ("flat", False): (1.0, 1.5),
    ("flat", True): (3.0, 6.0),
    ("sq8", True): (2.0, 3.0, 4.0, 6.0),
    ("fastscan", False): (5.0, 9.0, 16.0),
    ("fastscan", True): (5.0, 8.0, 12.0, 20.0),
}
"""Candidates tried, as multiples of the results, by payload and whether it holds components alone."""
_BEAMS = (1.0, 2.0)  # of a graph over the lists, as of faiss's


class Kinsight(System):
    """What is quickest. graphs_beyond: with more vectors than these, lists are also chosen through a graph."""

    seeded = True
    graphs_beyond = LARGE

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        torch.set_num_threads(threads)

    @classmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        root = 2 ** round(math.log2(2 * math.sqrt(rows)))
        ways = cls.ways(dim)[: 1 if effort == "quick" else 3 if rows > LARGE else None]
        plain: list[Settings] = [
            {"components": components, "lists": max(16, int(times * root)), "payload": payload, "copies": 0.0}
            for components, times, payload in ways
        ]
        if effort == "quick" or rows <= cls.graphs_beyond:
            return plain
        return [*plain, {**max(plain, key=lambda each: each["lists"]), "routing": "graph"}]

    @classmethod
    def ways(cls, dim: int) -> list[tuple[int | None, float, str]]:
        """Components, lists as multiples of twice the root of the number of vectors, payload. Short vectors are
        quickest in codes, or as they are; of long ones the components.
        """
        if dim > _LONG:
            return [(96, 1, "sq8"), (64, 1, "sq8"), (128, 1, "sq8"), (128, 1, "fastscan")]
        short = [(dim * parts // 4, 1, "fastscan") for parts in (2, 3)] if dim >= _SHORT else [(None, 2, "flat")]
        return [(None, 1, "fastscan"), (None, 2, "fastscan"), *short]

    @classmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        factors = _REFINE[build["payload"], build["components"] is not None]
        if "routing" in build:  # whole vectors: none to refine
            factors = factors[:1] if build["payload"] == "flat" and build["components"] is None else factors
            return [{"refine": factor, "by": "lists", "beam": beam} for factor in factors for beam in _BEAMS]
        found: list[Settings] = [{"refine": factor, "by": "lists"} for factor in factors]
        return [*found, {"refine": factors[1], "by": "mass"}]

    @classmethod
    def efforts(cls, build: Settings, rows: int) -> Sequence[int]:
        return steps(1, max(8, build["lists"] // 4))

    def build(self, build: Settings, seed: int, place: Path) -> Spent | None:
        partition, before = self._partition(build, seed)
        index: dict[str, Any] = {"payload": build["payload"], "nprobe": 8, "refine": 4, "seed": seed}
        if "routing" in build:
            index["routing"] = build["routing"]
        if build["copies"]:
            index["copies"] = {"budget": build["copies"]}
        build_index(
            {
                "embeddings": str(self.task.folder / "base.npy"),
                "partition": str(partition),
                "index": index,
                "metric": "l2",
                "output": str(place / "index"),
            }
        )
        return before

    def load(self, build: Settings, place: Path) -> None:
        self.settings = build
        self.index = Index.open(str(place / "index"))
        structure = self.index.structure
        assert isinstance(structure, Learned)
        self.structure, self.entries_L = structure, np.append(structure.entries_L.numpy(), 0)

    def search(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> np.ndarray:
        return self.index.at(self._level(effort, knob)).search(torch.from_numpy(query_QD), k).row_QK.numpy()

    def counts(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> Counts:
        at = self.structure.at(self._level(effort, knob))
        list_QP = at.looked_through(query_QD, 1, 1, None).list_QP
        entries_Q = self.entries_L[list_QP].sum(1)
        entries, routed = float(entries_Q.mean()), self.structure.faiss.d
        if self.settings["payload"] == "fastscan":  # look-ups, and the tables they look into, made once for a query
            scanning = entries * self.structure.faiss.pq.M + 16 * routed
        else:
            scanning = entries * routed
        refining = 0 if at.is_exact else at.num_candidates(k) * self.task.dim
        return Counts(at.multiply_adds(query_QD) + scanning + refining, entries, float(np.quantile(entries_Q, 0.95)))

    def routes(self, query_QD: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        level = Level(recall=0, reached=0, nprobe=most, refine=1, scanned=0, cost=0)
        list_QP = self.structure.at(level).looked_through(query_QD, 1, 1, None).as_asked().list_QP
        own = self.structure.faiss
        return list_QP, members(own.invlists, own.nlist, self.task.rows)

    def _level(self, effort: int, knob: Settings) -> Level:
        if "beam" in knob:
            assert self.structure.graph is not None
            self.structure.graph.beam = knob["beam"]
        by_mass = knob["by"] == "mass"
        probes = max(8, self.settings["lists"] // 4) if by_mass else effort
        mass = 1 - (1 + effort / 2) ** -1.5 if by_mass else None
        return Level(recall=0, reached=0, nprobe=probes, mass=mass, refine=knob["refine"], scanned=0, cost=0)

    def _partition(self, settings: Settings, seed: int) -> tuple[Path, Spent | None]:
        """Its folder, and what making it has cost, if it was there."""
        asked = {"components": settings["components"], "lists": settings["lists"], "seed": seed}
        place = self.task.work / f"partition-{key_of(asked)}"
        if (spent := place / _SPENT).exists():
            return place, Spent(**json.loads(spent.read_text()))
        spec: dict[str, Any] = {
            "vectors": str(self.task.folder / "base.npy"),
            "output": str(place),
            "metric": "l2",
            "lists": settings["lists"],
            "components": settings["components"],
            "seed": seed,
        }
        if self.task.rows > LARGE:
            spec["targets"] = {"sample": 50_000}
        if self.task.has_log:
            log = self.task.folder / "log.npy"
            queries = len(np.load(log, mmap_mode="r", allow_pickle=False))
            spec |= {"queries": str(log), "held_out": max(100, min(2000, queries // 10))}
        started = time.perf_counter()
        learn(spec, overwrite=True)
        spent.write_text(json.dumps({"s": time.perf_counter() - started, "peak_mb": peak_mb()}))
        return place, None


class KinsightFlat(Kinsight):
    """Whole numbers in the lists: the least multiply-adds, as inverted lists of whole vectors count them."""

    graphs_beyond = 0

    @classmethod
    def ways(cls, dim: int) -> list[tuple[int | None, float, str]]:
        kept = 64 if dim >= _SHORT else None
        return [(kept, 2, "flat"), (96 if dim > _LONG else kept, 4, "flat")]
