"""How well lists serve a search for the same object: true rows are those of the query's object, not the nearest ones.

Two recalls: of a query's true rows, the share that is in the lists looked into; and of the queries, the share whose
nearest vector in these lists is a true row (top-1).

Memory: the base is read in parts of 1 GB, a million rows at most, and again for top-1; a part is held three times.
Of each of its N vectors there remain its list, F further lists, their gain and their place in the order of copies:
4 + 16 F bytes, half as much again while they are sorted. Q queries that look into P lists: 24 bytes for each of Q times
P, 12 for each query and cell of the table, and while top-1 is judged K for each of these; and of a pass of B queries,
4 for each of its scores, B times L, beside what the network computes on the way.

Shapes: Q queries, K true rows, N base vectors, L lists, P numbers of lists, S budgets of copies, R dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinsight import progress
from kinsight.data.vector_files import VectorFile
from kinsight.partition.artefact import Partition
from kinsight.partition.clusters import Clusters
from kinsight.partition.measure import by_distance, by_yield, curve, imbalance, ranked_lists, sizes
from kinsight.partition.ratio import Further, copies_at, further, fuzzy_of, ranks
from kinsight.partition.seek import entries_of
from kinsight.partition.space import Space
from kinsight.partition.top1 import Looking, hits, parts, rows_found
from kinsight.partition.work import Work


@dataclass(frozen=True)
class Route:
    """What is judged. score: given the sizes of the lists, what ranks them for queries. multiply_adds: of one query."""

    space: Space
    clusters: Clusters
    score: Callable[[Tensor], Callable[[Tensor], Tensor]]
    multiply_adds: int

    @classmethod
    def learned(cls, partition: Partition, device: torch.device) -> "Route":
        """By the router: neighbours expected for each vector scanned."""
        router = partition.router.to(device).eval()
        clusters = partition.clusters.to(device)
        cost = partition.space.multiply_adds + router.multiply_adds
        return cls(partition.space, clusters, lambda size_L: by_yield(router, size_L.to(device)), cost)

    @classmethod
    def centres(cls, space: Space, centre_LR: Tensor, device: torch.device) -> "Route":
        """By the nearest centre."""
        clusters = Clusters(centre_LR, torch.zeros(len(centre_LR))).to(device)
        return cls(space, clusters, lambda _: by_distance(clusters), centre_LR.numel())


@dataclass(frozen=True)
class Asked:
    """query_QD: as users give them; truth_QK: int64 rows of the base, -1 for none, one at least in every row.
    probes, percents: ascending. at_once: queries of a pass.
    """

    query_QD: Tensor
    truth_QK: Tensor
    probes: Sequence[int]
    percents: Sequence[float]
    at_once: int


def judge(route: Route, base: VectorFile, asked: Asked, work: Work, device: torch.device) -> dict[str, Any]:
    """The table's rows and what belongs to them, as plain numbers. Raises DataError for vectors of no use.

    `work` keeps what is done; the same call goes on from there.
    """
    lists = len(route.clusters.price_L)
    found = _assigned(route, base, asked, work, device)
    plain_L = sizes(found.list_N, lists)
    query_QR = route.space.queries(asked.query_QD).to(device)
    order_QL = ranked_lists(route.score(plain_L), query_QR, asked.probes[-1], at_once=asked.at_once).cpu()
    looking = Looking(base, route.space.whole, asked.query_QD, order_QL, asked.probes, device)
    rank_of = {fuzzy: ranks(found, fuzzy) for fuzzy in sorted({fuzzy_of(percent) for percent in asked.percents})}
    row_QPS = torch.cat(
        [_nearest(looking, asked, found, rank_NF, fuzzy, work) for fuzzy, rank_NF in rank_of.items()], 2
    )
    hit_QPS = hits(row_QPS, asked.truth_QK)
    rows, stored = [], []
    for at, percent in enumerate(asked.percents):
        list_NC = copies_at(found, rank_of[fuzzy_of(percent)], percent)
        told = curve(order_QL, list_NC, asked.truth_QK, asked.probes, lists)
        size_L = sizes(list_NC, lists)
        for step, probe in enumerate(asked.probes):
            row = {"nprobe": probe, "percent": percent, "in_lists": told.recall[step]}
            row |= {"top1": hit_QPS[:, step, at].double().mean()}
            row |= {"scanned": told.scanned[step] / len(base), "scanned_p95": told.p95[step] / len(base)}
            rows.append({name: value if name == "nprobe" else float(value) for name, value in row.items()})
        even = {"imbalance": imbalance(size_L), "longest": int(size_L.max()), "empty": int((size_L == 0).sum())}
        stored.append({"percent": percent, "stored": int(size_L.sum()) / len(base), **even})
    routing = {"multiply_adds": route.multiply_adds, "of_full_scan": route.multiply_adds / (len(base) * base.dim)}
    return {"rows": rows, "lists": stored, "routing": routing, "base": len(base), "queries": len(query_QR)}


def _assigned(route: Route, base: VectorFile, asked: Asked, work: Work, device: torch.device) -> Further:
    fuzzy = max(fuzzy_of(percent) for percent in asked.percents)
    found = []
    with progress.task("assign", len(base), "vectors") as task:
        for number, (start, stop) in enumerate(parts(base)):

            def made(start: int = start, stop: int = stop) -> dict[str, Tensor]:
                row_BD = torch.from_numpy(base.take(np.arange(start, stop)))
                row_BR = route.space.rows(row_BD).to(device)
                each = further(row_BR, route.clusters, fuzzy=fuzzy, cosine=route.space.ranks_by_product)
                return {"list": each.list_N, "other": each.other_NF, "gain": each.gain_NF}

            kept = work.stage(f"assign-{number:04}", made)
            found.append(Further(kept["list"], kept["other"], kept["gain"]))
            task.advance(stop - start)
    return Further.joined(found)


def _nearest(looking: Looking, asked: Asked, found: Further, rank_NF: Tensor, fuzzy: int, work: Work) -> Tensor:
    """The row found for each query, number of lists and budget that considers as many lists: int64 (Q, P, S)."""
    base = looking.base
    taken = [round(percent * len(base)) for percent in asked.percents if fuzzy_of(percent) == fuzzy]

    def entries(here: slice) -> tuple[Tensor, ...]:
        return entries_of(found.list_N[here], found.other_NF[here, : rank_NF.shape[1]], rank_NF[here], taken)

    return rows_found(looking, len(taken), entries, stage=lambda name, made: work.stage(f"top1-{fuzzy}-{name}", made))
