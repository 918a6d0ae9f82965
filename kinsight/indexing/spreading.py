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
from kinsight.partition.copies import MISS_NEIGHBORS, Candidates, by_misses, by_rule, place
from kinsight.specs.index import CopiesSpec

_AT_ONCE = 4096
_NEIGHBOR_LISTS = 0.05  # share of the lists they are sought in

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
    candidates = _candidates(structure, copies, vectors, home_N, blocks)
    list_NC = place(home_N[start:], candidates, copies.budget)[:, 1:].numpy()
    for first, last in blocks:
        row_E, place_E = (list_NC[first - start : last - start] >= 0).nonzero()
        if len(row_E):
            routed_BR = structure.partition.space.rows(torch.from_numpy(vectors(first, last)))
            structure.append(routed_BR[row_E], row_E + first, list_NC[first - start + row_E, place_E])
    structure.ready()
    progress.say(f"copies      {(list_NC >= 0).sum() / (stop - start):.2f} of a vector, by {copies.rule}")


def _candidates(
    structure: Learned, copies: CopiesSpec, vectors: Vectors, home_N: Tensor, blocks: list[tuple[int, int]]
) -> Candidates:
    """Copies that may be made; their rows count from the first block on."""
    start, stop = blocks[0][0], blocks[-1][1]
    partition, found = structure.partition, []
    near: list[Tensor] = []
    with progress.task("copies", stop - start, "vectors") as task:
        for first, last in blocks:
            if copies.rule == "misses":
                near.append(_neighbors(structure, vectors(first, last), first))
            else:
                routed_BR = partition.space.rows(torch.from_numpy(vectors(first, last)))
                home_B = home_N[first:last]
                pairs = by_rule(
                    copies.rule, routed_BR, home_B, partition.space, partition.clusters, partition.router, copies.budget
                )
                found.append(Candidates(pairs.vector_E + (first - start), pairs.list_E, pairs.gain_E))
            task.advance(last - first)
    if copies.rule != "misses":
        return Candidates(*(torch.cat([getattr(each, name) for each in found]) for name in _PAIRS))
    near_NK, lists = torch.cat(near), structure.faiss.nlist
    if start == 0:  # each vector as a query that looks into its own list
        return by_misses(home_N[:, None], near_NK, home_N, lists)
    # of rows added, their neighbours are the queries: those that are in the index already
    row_E, rank_E = (near_NK >= 0).nonzero(as_tuple=True)
    weight_E = torch.linspace(1.5, 0.5, near_NK.shape[1])[rank_E]
    probe_E1 = home_N[near_NK[row_E, rank_E]][:, None]
    return by_misses(probe_E1, row_E[:, None], home_N[start:], lists, weight_E[:, None])


def _neighbors(structure: Learned, vector_BD: np.ndarray, first: int) -> Tensor:
    """The nearest rows to rows from `first` on, themselves left out: int64 (B, K), -1 where there are fewer."""
    lists = structure.faiss.nlist
    probes = min(lists, max(4, round(_NEIGHBOR_LISTS * lists)))
    wide = structure.at(Level(recall=0, reached=0, nprobe=probes, refine=1, scanned=0, cost=0))
    near_BK = torch.from_numpy(wide.candidates(vector_BD, MISS_NEIGHBORS + 1, 1, None))
    own_B1 = torch.arange(first, first + len(vector_BD))[:, None]
    # the row itself goes behind all others, wherever it stands among its equals
    order_BK = ((near_BK == own_B1) | (near_BK < 0)).int().argsort(dim=1, stable=True)
    near_BK = torch.where(near_BK == own_B1, -1, near_BK).gather(1, order_BK)[:, :MISS_NEIGHBORS]
    repeated_BK = (near_BK[:, :, None] == near_BK[:, None, :]).tril(-1).any(2)  # with copies, a row comes several times
    return near_BK.masked_fill(repeated_BK, -1)


_PAIRS = ("vector_E", "list_E", "gain_E")
