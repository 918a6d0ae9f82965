"""What `partition evaluate` measures side by side: ways to spread a base over lists, each with its way to choose them.

Shapes: N base vectors, L lists, C lists of a vector at most, Q queries, K true rows, R routed dimensions.
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
from kinsight.partition.copies import MISS_NEIGHBORS, Candidates, by_misses, by_rule, place
from kinsight.partition.exact import nearest_rows
from kinsight.partition.measure import RECALLS, curve, first_reached, imbalance, ranked_lists, sizes
from kinsight.partition.ratio import Further, copies_at, further, fuzzy_of, ranks
from kinsight.partition.routers import Router
from kinsight.partition.seek import entries_of
from kinsight.partition.space import Space
from kinsight.partition.top1 import Looking, hits, rows_found
from kinsight.partition.work import Work


@dataclass(frozen=True)
class Variant:
    """name: as shown. list_NC: lists of each base vector, -1 none. score: given the lists' sizes, what ranks them.
    multiply_adds: of choosing lists, a query. rule, budget: of copies.
    """

    name: str
    kind: str
    rule: str | None
    budget: float
    list_NC: Tensor
    score: Callable[[Tensor], Callable[[Tensor], Tensor]]
    multiply_adds: int
    lists: int


def homes(base: VectorFile, space: Space, clusters: Clusters, device: torch.device, what: str) -> Tensor:
    """The list of each vector, int32 (N,)."""
    here, found = clusters.to(device), []
    with progress.task(what, len(base), "vectors") as task:
        for _, row_BD in base.blocks():
            found.append(here.assign(space.rows(torch.from_numpy(row_BD)).to(device))[0].int().cpu())
            task.advance(len(row_BD))
    return torch.cat(found)


def spread(
    rule: str, budgets: Sequence[float], base: VectorFile, partition: Partition, list_N: Tensor, near: "Near | None",
    device: torch.device,
) -> list[Tensor]:  # fmt: skip
    """The lists of each vector for each budget, copies by this rule."""
    if rule == "misses":
        assert near is not None, "the job has found them"
        probe_S1, home_N = list_N[near.row_S][:, None].long(), list_N.long()
        return _placed(by_misses(probe_S1, near.near_SK, home_N, len(partition.size_L)), home_N, budgets)
    clusters, router = partition.clusters.to(device), partition.router.to(device)
    cosine, most = partition.space.ranks_by_product, max(budgets)
    others: list[Further] = []
    pairs: list[Candidates] = []
    with progress.task(rule, len(base), "vectors") as task:
        for first, row_BD in base.blocks():
            row_BR = partition.space.rows(torch.from_numpy(row_BD)).to(device)
            home_B = list_N[first : first + len(row_BD)].long().to(device)
            if rule == "ratio":
                others.append(further(row_BR, clusters, fuzzy=fuzzy_of(most), cosine=cosine))
            else:
                pairs.append(_pairs(rule, row_BR, home_B, (partition.space, clusters, router, most), first))
            task.advance(len(row_BD))
    if rule == "ratio":
        found = Further.joined(others)
        return [copies_at(found, ranks(found, fuzzy_of(budget)), budget) for budget in budgets]
    joined = Candidates(*(torch.cat([getattr(each, name) for each in pairs]) for name in _FIELDS))
    return _placed(joined, list_N.long(), budgets)


_FIELDS = ("vector_E", "list_E", "gain_E")


def _pairs(
    rule: str, row_BR: Tensor, home_B: Tensor, by: tuple[Space, Clusters, Router, float], first: int
) -> Candidates:
    """by: space, lists, router, and the most copies that are wanted."""
    parts, step = [], max(1, (1 << 25) // len(by[1].price_L))
    for start in range(0, len(row_BR), step):
        here = slice(start, start + step)
        found = by_rule(rule, row_BR[here], home_B[here], *by)
        parts.append(Candidates(found.vector_E.cpu() + first + start, found.list_E.cpu(), found.gain_E.cpu()))
    return Candidates(*(torch.cat([getattr(each, name) for each in parts]) for name in _FIELDS))


def _placed(candidates: Candidates, home_N: Tensor, budgets: Sequence[float]) -> list[Tensor]:
    return [place(home_N, candidates, budget).int() for budget in budgets]


@dataclass(frozen=True)
class Near:
    """Base vectors and their neighbours in the base: row_S, near_SK int64, -1 none."""

    row_S: Tensor
    near_SK: Tensor


def neighbours(work: Work, stage: str, exam: "Exam", sample: int, seed: int) -> Near:
    """Of all vectors of the base, or of as many as `sample`, each as a query. stage: that they are part of."""
    base, row_S = exam.base, np.arange(len(exam.base))
    if sample < len(base):
        row_S = np.sort(np.random.default_rng([seed, 4]).choice(len(base), sample, replace=False))
    query_SR = exam.whole.queries(torch.from_numpy(base.take(row_S))).to(exam.device)
    own_S = torch.from_numpy(row_S)
    k = min(MISS_NEIGHBORS, len(base) - 1)
    near_SK = nearest_rows(work, stage, base, exam.whole, query_SR, k, own_Q=own_S)
    return Near(own_S, near_SK.cpu())


@dataclass(frozen=True)
class Exam:
    """What variants are measured on. space: routed. whole: what true neighbours are nearest in. truth_QK: -1 none."""

    base: VectorFile
    space: Space
    whole: Space
    query_QD: Tensor
    truth_QK: Tensor
    identity: bool
    probes: Sequence[int] | None
    device: torch.device


def measured(variant: Variant, exam: Exam, probes: Sequence[int]) -> dict[str, Any]:
    """The variant's row, as plain numbers."""
    count = len(exam.base)
    size_L = sizes(variant.list_NC, variant.lists)
    query_QR = exam.space.queries(exam.query_QD).to(exam.device)
    order_QL = ranked_lists(variant.score(size_L.to(exam.device)), query_QR, probes[-1]).cpu()
    depths = {"in_lists": exam.truth_QK.shape[1]} if exam.identity else _depths(exam.truth_QK)
    told: dict[str, Any] = {"name": variant.name, "kind": variant.kind, "rule": variant.rule, "budget": variant.budget}
    told |= {"lists": variant.lists, "stored": int(size_L.sum()) / count, "imbalance": imbalance(size_L)}
    told |= {"longest": int(size_L.max()), "multiply_adds": variant.multiply_adds}
    told |= {"routing": variant.multiply_adds / (count * exam.base.dim), "probes": list(probes)}
    curves = {
        name: curve(order_QL, variant.list_NC, exam.truth_QK[:, :k], probes, variant.lists)
        for name, k in depths.items()
    }
    first = next(iter(curves.values()))
    told |= {"entries": first.scanned.tolist(), "scanned": (first.scanned / count).tolist()}
    told |= {"p95": (first.p95 / count).tolist()}
    told |= {name: each.recall.tolist() for name, each in curves.items()}
    if exam.identity:
        told["top1"] = _top1(variant, exam, order_QL, probes)
    judged = judged_by(told)
    told["scanned_for"] = {f"{each:g}": first_reached(told["scanned"], told[judged], each) for each in RECALLS}
    return told


def judged_by(told: dict[str, Any]) -> str:
    """The recall that costs are told for."""
    return next(name for name in ("in_lists", "recall@10", "recall@1") if name in told)


def _depths(truth_QK: Tensor) -> dict[str, int]:
    return {f"recall@{k}": k for k in (1, 10, 100) if k <= truth_QK.shape[1]}


def _top1(variant: Variant, exam: Exam, order_QL: Tensor, probes: Sequence[int]) -> list[float]:
    """Share of queries whose nearest vector in so many lists is a true row."""
    looking = Looking(exam.base, exam.whole, exam.query_QD, order_QL, probes, exam.device)
    home_N, other_NF = variant.list_NC[:, 0], variant.list_NC[:, 1:]

    def entries(here: slice) -> tuple[Tensor, ...]:
        return entries_of(home_N[here], other_NF[here], torch.zeros_like(other_NF[here]).long(), [1])

    row_QPS = rows_found(looking, 1, entries, shown=f"top-1, {variant.name}")
    return hits(row_QPS, exam.truth_QK)[:, :, 0].double().mean(0).tolist()
