"""How the vectors near a query are found without comparing all of them: one class per kind of index.

A structure proposes rows; `Index` puts them into order by the full vectors. So a further kind is a settings class, an
arm in `kinds.build_structure`, and these methods.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinsight.indexing.settings import Settings
from kinsight.indexing.untyped import faiss
from kinsight.neighbors import Metric
from kinsight.specs.index import HnswIndex, IvfIndex, IvfPqIndex

_TRAIN_ROUNDS = 12  # of k-means; more move the centres hardly, and cost as much each


class Structure(ABC):
    """Rows are numbered in the order they were added. faiss: the index of that library that does the work."""

    faiss: Any

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """All of them decided, none null."""

    @abstractmethod
    def train(self, sample_MD: np.ndarray) -> None:
        """Learn from a sample; float32 rows as `prepared` gives them."""

    @abstractmethod
    def num_candidates(self, k: int) -> int:
        """How many rows to ask for, for k neighbours."""

    @abstractmethod
    def candidates(self, query_QD: np.ndarray, wanted: int, effort: int, live: Any | None) -> np.ndarray:
        """int64 (Q, wanted) rows that are probably near, -1 for none; queries as `prepared` gives them.

        effort: times the usual work. live: rows that count; None: all.
        """

    @property
    def num_train(self) -> int:
        """Rows to learn from; 0: none needed."""
        return 0

    def add(self, vector_BD: np.ndarray) -> None:
        """Append rows; float32 as `prepared` gives them."""
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.faiss.add(vector_BD)

    @property
    def num_rows(self) -> int:
        """Rows it holds."""
        return self.faiss.ntotal

    def holds(self, rows: int, dim: int) -> bool:
        """Whether it is of so many vectors of this length."""
        return self.faiss.ntotal == rows and self.faiss.d == dim

    def save(self, path: Path) -> None:
        """Write to a local file."""
        faiss.write_index(self.faiss, str(path))


class _BySearch(Structure):
    """One that faiss searches as it is."""

    @abstractmethod
    def parameters(self, wanted: int, effort: int, live: Any | None) -> Any:
        """Of a search for `wanted` rows with `effort` times the usual work, among those that are live."""

    def candidates(self, query_QD: np.ndarray, wanted: int, effort: int, live: Any | None) -> np.ndarray:
        faiss.omp_set_num_threads(torch.get_num_threads())  # faiss keeps a number of its own, per thread
        # faiss.contrib.torch_utils, which other libraries import, replaces `search` by one without params.
        search = getattr(self.faiss, "search_numpy", self.faiss.search)
        return search(query_QD, wanted, params=self.parameters(wanted, effort, live))[1]


class Hnsw(_BySearch):
    """Malkov and Yashunin 2018."""

    def __init__(self, settings: HnswIndex, dim: int, metric: Metric, stored: Any | None) -> None:
        self._settings = settings
        assert settings.m and settings.ef_construction
        self.faiss = stored or faiss.IndexHNSWFlat(dim, settings.m, _faiss_metric(metric))
        self.faiss.hnsw.efConstruction = settings.ef_construction
        if stored is None:
            self.faiss.hnsw.rng = faiss.RandomGenerator(settings.seed)

    @property
    def settings(self) -> HnswIndex:
        return self._settings

    def train(self, sample_MD: np.ndarray) -> None:
        raise AssertionError("a graph learns nothing")

    def add(self, vector_BD: np.ndarray) -> None:
        # Threads that insert side by side see each other's links by chance.
        faiss.omp_set_num_threads(1 if self.settings.reproducible else torch.get_num_threads())
        self.faiss.add(vector_BD)

    def num_candidates(self, k: int) -> int:
        return k

    def parameters(self, wanted: int, effort: int, live: Any | None) -> Any:
        assert self.settings.ef_search
        return faiss.SearchParametersHNSW(efSearch=effort * max(self.settings.ef_search, wanted), sel=live)


class Ivf(_BySearch):
    """Inverted lists of whole vectors, or of codes of a product quantiser that codes what the centre leaves."""

    def __init__(self, settings: IvfIndex | IvfPqIndex, dim: int, metric: Metric, stored: Any | None) -> None:
        self._settings = settings
        self.faiss = stored or _new_lists(settings, dim, metric)

    @property
    def settings(self) -> IvfIndex | IvfPqIndex:
        return self._settings

    @property
    def num_train(self) -> int:
        assert self.settings.train_vectors
        return self.settings.train_vectors

    def train(self, sample_MD: np.ndarray) -> None:
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.faiss.train(sample_MD)

    def num_candidates(self, k: int) -> int:
        return k * self.settings.refine if isinstance(self.settings, IvfPqIndex) else k

    def parameters(self, wanted: int, effort: int, live: Any | None) -> Any:
        assert self.settings.nprobe and self.settings.lists
        nprobe = min(self.settings.lists, effort * self.settings.nprobe)
        return faiss.SearchParametersIVF(nprobe=nprobe, sel=live)


def prepared(vector_ND: np.ndarray, norm_N: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows as structures take them: float32, of unit length under cosine, where squared distance ranks alike."""
    if metric == "cosine":
        vector_ND = vector_ND / norm_N[:, None].astype(np.float32)
    return np.ascontiguousarray(vector_ND, np.float32)


def _faiss_metric(metric: Metric) -> int:
    return faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2


def _new_lists(settings: IvfIndex | IvfPqIndex, dim: int, metric: Metric) -> Any:
    assert settings.lists
    quantizer = faiss.IndexFlatIP(dim) if metric == "ip" else faiss.IndexFlatL2(dim)
    index: Any
    if isinstance(settings, IvfPqIndex):
        assert settings.subvectors and settings.bits
        index = faiss.IndexIVFPQ(
            quantizer, dim, settings.lists, settings.subvectors, settings.bits, _faiss_metric(metric)
        )
        index.pq.cp.seed, index.pq.cp.niter = settings.seed, _TRAIN_ROUNDS
        index.pq.cp.min_points_per_centroid = 1
    else:
        index = faiss.IndexIVFFlat(quantizer, dim, settings.lists, _faiss_metric(metric))
    index.own_fields = True
    quantizer.this.disown()
    index.cp.seed, index.cp.niter = settings.seed, _TRAIN_ROUNDS
    # How few vectors suffice is for `settings` to say, in words; the sample is drawn already.
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 2**30
    index.cp.spherical = metric == "ip"
    return index
