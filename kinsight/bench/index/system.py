"""What a search system looks like to `kinsight bench index`: ways of building it, settings of a search, what it cost.

Shapes: Q queries, K results, D dimensions.
"""

import resource
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinsight.bench.index.truth import faiss

LARGE = 500_000
"""Rows above which graphs are built with less effort, of most systems fewer ways are
tried, and one seed is taken: a run must end."""

Settings = Mapping[str, Any]
"""Of a build or of a search: JSON values."""


@dataclass(frozen=True)
class Task:
    """What there is to build from. folder: of the set; see `sets`. work: a folder to share between builds."""

    folder: Path
    work: Path
    rows: int
    dim: int
    has_log: bool

    def base(self) -> np.ndarray:
        return np.load(self.folder / "base.npy", allow_pickle=False)


@dataclass(frozen=True)
class Counts:
    """Of a query, on average. multiply_adds: routing, scanning and refinement; a table look-up with its addition counts
    as one. entries: vectors or codes compared, copies counted; p95: what one query in twenty exceeds, None if unknown.
    """

    multiply_adds: float
    entries: float
    p95: float | None


@dataclass(frozen=True)
class Spent:
    """On something that several builds share. peak_mb: of the process that made it."""

    s: float
    peak_mb: float


def peak_mb() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


class System(ABC):
    """One way to search. All methods are called in a process of its own, set to a number of threads."""

    seeded = False
    """Whether other seeds make another index worth looking at."""
    modules: tuple[str, ...] = ()
    """What must be installed."""

    def __init__(self, task: Task, threads: int) -> None:
        self.task, self.threads = task, threads

    @classmethod
    @abstractmethod
    def builds(cls, rows: int, dim: int, effort: str) -> list[Settings]:
        """Ways of building it that are tried."""

    @classmethod
    @abstractmethod
    def knobs(cls, build: Settings, rows: int) -> list[Settings]:
        """Settings of a search besides the effort."""

    @classmethod
    @abstractmethod
    def efforts(cls, build: Settings, rows: int) -> Sequence[int]:
        """Efforts of a search, ascending; recall rises with them."""

    @abstractmethod
    def build(self, build: Settings, seed: int, place: Path) -> Spent | None:
        """Build it and write it to a folder that is there; what an earlier build has already spent on it."""

    @abstractmethod
    def load(self, build: Settings, place: Path) -> None:
        """Read what `build` wrote."""

    @abstractmethod
    def search(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> np.ndarray:
        """Rows found, int (Q, K), -1 for none."""

    def counts(self, query_QD: np.ndarray, k: int, effort: int, knob: Settings) -> Counts | None:
        """What such a search costs; None where the system does not tell."""
        return None

    def routes(self, query_QD: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """(first `most` lists each query looks into, int64 (Q, P); lists of each row, int32 (N, C), -1: none)."""
        raise NotImplementedError(f"{type(self).__name__} has no lists")


def members(inverted_lists: Any, lists: int, rows: int) -> np.ndarray:
    """The lists of each row out of faiss's inverted lists: int32 (N, C), -1 behind the last one."""
    found = [faiss.rev_swig_ptr(inverted_lists.get_ids(at), inverted_lists.list_size(at)).copy() for at in range(lists)]
    row_E = np.concatenate(found)
    list_E = np.repeat(np.arange(lists, dtype=np.int32), [len(each) for each in found])
    order_E = np.argsort(row_E, kind="stable")
    row_E, list_E = row_E[order_E], list_E[order_E]
    place_E = np.arange(len(row_E)) - np.searchsorted(row_E, row_E)
    list_NC = np.full((rows, int(place_E.max()) + 1), -1, np.int32)
    list_NC[row_E, place_E] = list_E
    return list_NC


def steps(low: int, high: int, ratio: float = 1.12) -> list[int]:
    """Whole numbers from low to high, each about `ratio` times the one before."""
    found, value = [], float(low)
    while value < high:
        if not found or round(value) > found[-1]:
            found.append(round(value))
        value = max(value * ratio, found[-1] + 1)
    return [*found, high]
