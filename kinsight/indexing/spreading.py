"""Copies: vectors of a learned index that are put into further lists, by the rules of `partition.copies`.

Shapes: N new rows, B of a block, R routed dimensions, C lists of a vector at most, K neighbours, E pairs (row, list).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kinsight import progress
from kinsight.indexing.learned import Learned
from kinsight.indexing.settings import Level
from kinsight.partition.copies import Candidates, by_misses, by_probability, by_ratio, by_residual, place
from kinsight.partition.ratio import further, fuzzy_of
from kinsight.specs.index import CopiesSpec

_AT_ONCE = 4096
_NEIGHBORS = 20  # of a vector, by whose lists it is decided which searches miss it
_NEIGHBOR_LISTS = 0.05  # share of the lists they are sought in
_RESIDUAL_WEIGHT = 1.0

Vectors = Callable[[int, int], np.ndarray]
"""Rows from one number up to before another, float32 as `prepared` gives them."""


def spread(structure: Learned, vectors: Vectors, start: int) -> None:
    """Put copies of the rows from `start` on into further lists, within the budget of them all."""
    structure.ready()
    copies, stop = structure.settings.copies, structure.num_rows
    if copies is None or start == stop:
        return
    home_N = structure.homes()
    blocks = [(first, min(first + _AT_ONCE, stop)) for first in range(start, stop, _AT_ONCE)]
    found = []
    with progress.task("copies", stop - start, "vectors") as task:
        for first, last in blocks:
            pairs = _pairs(structure, copies, vectors(first, last), home_N, first)
            found.append(Candidates(pairs.vector_E + (first - start), pairs.list_E, pairs.gain_E))
            task.advance(last - first)
    joined = Candidates(*(torch.cat([getattr(each, name) for each in found]) for name in _PAIRS))
    list_NC = place(home_N[start:], joined, copies.budget)[:, 1:].numpy()
    for first, last in blocks:
        row_E, place_E = (list_NC[first - start : last - start] >= 0).nonzero()
        if len(row_E):
            routed_BR = structure.partition.space.rows(torch.from_numpy(vectors(first, last)))
            structure.append(routed_BR[row_E], row_E + first, list_NC[first - start + row_E, place_E])
    structure.ready()


def _pairs(structure: Learned, copies: CopiesSpec, vector_BD: np.ndarray, home_N: Tensor, first: int) -> Candidates:
    """Copies that these rows may get; their numbers count from `first`."""
    home_B = home_N[first : first + len(vector_BD)]
    if copies.rule == "misses":
        return _missed(structure, vector_BD, home_N, home_B, first)
    partition = structure.partition
    routed_BR = partition.space.rows(torch.from_numpy(vector_BD))
    match copies.rule:
        case "ratio":
            space, fuzzy = partition.space, fuzzy_of(copies.budget)
            cosine = space.metric != "l2" and space.projection is None and not space.longest
            return by_ratio(further(routed_BR, partition.clusters, fuzzy=fuzzy, cosine=cosine))
        case "probability":
            with torch.inference_mode():
                return by_probability(partition.router(routed_BR).log_softmax(1), home_B)
        case rule:
            parallel = rule == "soar"
            return by_residual(routed_BR, partition.clusters, home_B, weight=_RESIDUAL_WEIGHT, parallel=parallel)


def _missed(structure: Learned, vector_BD: np.ndarray, home_N: Tensor, home_B: Tensor, first: int) -> Candidates:
    """A vector's neighbours as queries: those that look into their own list first and do not find it there."""
    lists = structure.faiss.nlist
    probes = min(lists, max(4, round(_NEIGHBOR_LISTS * lists)))
    wide = structure.at(Level(recall=0, reached=0, nprobe=probes, refine=1, scanned=0, cost=0))
    near_BK = torch.from_numpy(wide.candidates(vector_BD, _NEIGHBORS + 1, 1, None))
    own_B = torch.arange(first, first + len(vector_BD))
    near_BK = torch.where(near_BK == own_B[:, None], -1, near_BK)
    row_E, rank_E = (near_BK >= 0).nonzero(as_tuple=True)
    weight_E = torch.linspace(1.5, 0.5, near_BK.shape[1])[rank_E]
    probe_E1 = home_N[near_BK[row_E, rank_E]][:, None]
    return by_misses(probe_E1, row_E[:, None], home_B, lists, weight_E[:, None])


_PAIRS = ("vector_E", "list_E", "gain_E")
