"""Lists of a router found through a graph of near ones: a query is compared with some hundred of thousands.

A list's score, weight @ query + bias, is a product of [weight, bias] and [query, 1]. One coordinate more makes all
lists equally long (Bachrach et al. 2014), so that the nearest list is the one of greatest score, and a graph of near
neighbours (Malkov and Yashunin 2018) finds it. What is the same for all lists of a query, the mean of weights and of
biases, is taken off before: it would only hide how lists differ. The bias is given the weight it has for queries as
long as centres are.

It is made when an index is opened, out of the router and the sizes of the lists alone: in 0.4 seconds for 16,384 lists
of 64 numbers on one core, in 0.04 for 2,048. So it is never stored, and never of other lists than there are.

Shapes: B queries, L lists, R routed dimensions, P lists of a query, G = R + 2 coordinates in the graph.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinsight.indexing.untyped import faiss

_LINKS = 16  # of a list to others, twice as many on the ground
_CANDIDATES = 64  # when a list is put in: with 200 the same lists are found, and it takes three times as long
_BEAM = 1.5  # lists kept in sight for each one wanted
_LEAST_BEAM = 16
_MANY = 0.25  # share of the lists: to keep so many in sight, nearly all are compared


def width(probes: int, beam: float = _BEAM) -> int:
    """Lists that a search for so many keeps in sight."""
    return max(_LEAST_BEAM, probes, math.ceil(beam * probes))


def pays(lists: int, in_sight: int) -> bool:
    """Whether a graph over so many lists compares far fewer of them, with so many kept in sight."""
    return in_sight <= _MANY * lists


class ListGraph:
    """Safe to search from many threads. beam: lists that a search keeps in sight, as a multiple of those it wants."""

    def __init__(self, weight_LR: Tensor, bias_L: Tensor, length: float) -> None:
        """length: of a usual query."""
        self.beam = _BEAM
        self._weight_LR, self._bias_L, self._length = weight_LR, bias_L, max(length, 1e-30)
        self._graph, self._longest = self._make()

    @property
    def numbers(self) -> int:
        """Multiply-adds of a comparison."""
        return self._weight_LR.shape[1] + 2

    def pays(self, probes: int) -> bool:
        """Whether it takes fewer comparisons to find so many lists than there are lists, by far."""
        return pays(len(self._bias_L), self._width(probes))

    def nearest(self, routed_BR: Tensor, probes: int, live_L: np.ndarray | None = None) -> Tensor:
        """Lists of great score, the greatest first: int64 (B, P), -1 behind those that were found. live_L: bool, lists
        that count; None: all.
        """
        ready_BG = self._ready(routed_BR)
        parameters = faiss.SearchParametersHNSW(efSearch=self._width(probes))
        if live_L is not None:
            bits = np.packbits(live_L, bitorder="little")  # named, not temporary: faiss takes a pointer
            parameters.sel = faiss.IDSelectorBitmap(bits)
        # faiss.contrib.torch_utils, which other libraries import, replaces `search` by one without params.
        search = getattr(self._graph, "search_numpy", self._graph.search)
        return torch.from_numpy(search(ready_BG, probes, params=parameters)[1])

    def compared(self, routed_BR: Tensor, probes: int) -> float:
        """Lists that a query is compared with to find so many, mean; counted wrongly while others search, too."""
        before = faiss.cvar.hnsw_stats.ndis
        self.nearest(routed_BR, probes)
        return (faiss.cvar.hnsw_stats.ndis - before) / max(1, len(routed_BR))

    def _width(self, probes: int) -> int:
        return width(probes, self.beam)

    def _make(self) -> tuple[Any, float]:
        """faiss's graph, and the length that all lists have in it."""
        weight_LR, bias_L = self._weight_LR.double().numpy(), self._bias_L.double().numpy()
        list_LC = np.column_stack([self._length * (weight_LR - weight_LR.mean(0)), bias_L - bias_L.mean()])
        square_L = np.square(list_LC).sum(1)
        rest_L = np.sqrt(square_L.max() - square_L)
        graph = faiss.IndexHNSWFlat(self.numbers, _LINKS)
        graph.hnsw.efConstruction = _CANDIDATES
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # threads that insert side by side see each other's links by chance
        try:
            graph.add(np.column_stack([list_LC, rest_L]).astype(np.float32))
        finally:
            faiss.omp_set_num_threads(threads)
        return graph, math.sqrt(square_L.max())

    def _ready(self, routed_BR: Tensor) -> np.ndarray:
        """Queries as long as lists, which changes no order, and keeps squared distances exact enough."""
        ready_BG = np.zeros((len(routed_BR), self.numbers), np.float32)
        ready_BG[:, :-2] = routed_BR.numpy()
        ready_BG[:, -2] = self._length
        ready_BG *= self._longest / np.sqrt(np.square(ready_BG).sum(1, keepdims=True))
        return ready_BG
