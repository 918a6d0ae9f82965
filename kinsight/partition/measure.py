"""What a partition is worth, before any index is built: recall against lists looked into and vectors scanned.

Shapes: Q queries, L lists, N vectors, C lists of a vector at most, K true neighbours, P numbers of lists looked into.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight.partition.clusters import Clusters
from kinsight.partition.routers import Router

RECALLS = (0.9, 0.95, 0.99)
"""That costs are told for."""
Numbers = Sequence[float] | np.ndarray
PROBES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256)
_AT_ONCE = 2048


@dataclass(frozen=True)
class Truth:
    """query_QR: routed queries, float32. near_QK: int64, their nearest vectors, nearest first."""

    query_QR: Tensor
    near_QK: Tensor


@dataclass(frozen=True)
class Curve:
    """One row for each number of lists. lists: looked into, mean. scanned, p95: entries, copies counted. recall: share
    of the true neighbours that are in these lists.
    """

    lists: np.ndarray
    scanned: np.ndarray
    p95: np.ndarray
    recall: np.ndarray

    def recall_at(self, scanned: float) -> float:
        """Recall where so many entries are scanned, between two rows; NaN before the first row and after the last."""
        return float(np.interp(scanned, self.scanned, self.recall, left=np.nan, right=np.nan))

    def scanned_for(self, recall: float) -> float:
        """Entries scanned at a recall, as `first_reached`; NaN where it is not reached."""
        found = first_reached(self.scanned, self.recall, recall)
        return math.nan if found is None else found


def first_reached(scanned_P: Numbers, recall_P: Numbers, wanted: float) -> float | None:
    """What is scanned where a recall is reached first: between two rows; at the first row where that is enough already,
    since no search looks into less than one list; None where no row reaches it.
    """
    if recall_P[0] >= wanted:
        return float(scanned_P[0])
    rising_P = np.maximum.accumulate(recall_P)
    return None if rising_P[-1] < wanted else float(np.interp(wanted, rising_P, scanned_P))


def sizes(list_NC: Tensor, lists: int) -> Tensor:
    """Entries of each list, int64 (L,), copies counted."""
    return torch.bincount(list_NC[list_NC >= 0], minlength=lists)


def imbalance(size_L: Tensor) -> float:
    """1 for lists of equal size: how many times longer a vector's list is than the mean list, on average."""
    size_L = size_L.double()
    return float(len(size_L) * size_L.square().sum() / size_L.sum().square())


def curve(order_QL: Tensor, list_NC: Tensor, truth_QK: Tensor, probes: Sequence[int], lists: int) -> Curve:
    """order_QL: int64, the first lists each query looks into, best first; as many as the most probes at least.
    list_NC: integers, the lists of each vector, -1 for none. truth_QK: int64, the true neighbours; -1 for none.
    """
    size_L = sizes(list_NC, lists)
    last_P = torch.tensor(probes, device=order_QL.device) - 1
    scanned_QP = torch.cat([size_L[part_QL].cumsum(1)[:, last_P] for part_QL in order_QL.split(_AT_ONCE)]).double()
    seen_QK = torch.cat(
        [
            _first_seen(part_QL, list_NC[part_QK.clamp_min(0)].long(), lists)
            for part_QL, part_QK in zip(order_QL.split(_AT_ONCE), truth_QK.split(_AT_ONCE), strict=True)
        ]
    )
    there_QK = truth_QK >= 0
    number_Q = there_QK.sum(1).clamp_min(1)
    recalls = [float((((seen_QK < probe) & there_QK).sum(1) / number_Q).mean()) for probe in probes]
    p95_P = scanned_QP.quantile(0.95, dim=0)
    return Curve(np.array(probes), scanned_QP.mean(0).cpu().numpy(), p95_P.cpu().numpy(), np.array(recalls))


def _first_seen(order_QL: Tensor, list_QKC: Tensor, lists: int) -> Tensor:
    """The place of the first list in a query's order that holds a neighbour, int64 (Q, K); `lists` if none does."""
    place_QL = torch.full((len(order_QL), lists + 1), lists, device=order_QL.device)
    places_L = torch.arange(order_QL.shape[1], device=order_QL.device)
    place_QL.scatter_(1, order_QL, places_L.expand_as(order_QL))
    list_QKC = torch.where(list_QKC < 0, lists, list_QKC)
    return place_QL.gather(1, list_QKC.flatten(1)).view(list_QKC.shape).amin(2)


def ranked_lists(score: Callable[[Tensor], Tensor], query_QR: Tensor, most: int, *, at_once: int = _AT_ONCE) -> Tensor:
    """The first lists of each query by score, best first: int64 (Q, most). at_once: queries of a pass."""
    with torch.inference_mode():
        parts = [score(part_BR).topk(most, dim=1).indices for part_BR in query_QR.split(at_once)]
    return torch.cat(parts) if parts else torch.empty(0, most, dtype=torch.int64)


def by_distance(clusters: Clusters) -> Callable[[Tensor], Tensor]:
    """Scores as k-means ranks lists: nearest centre first."""
    half_L = clusters.centre_LD.square().sum(1) / 2
    return lambda query_QR: torch.addmm(-half_L, query_QR, clusters.centre_LD.T)


def by_yield(router: Router, size_L: Tensor) -> Callable[[Tensor], Tensor]:
    """Scores by neighbours expected for each vector scanned: the router's log share less the log of the list's size."""
    log_size_L = size_L.float().clamp_min(1).log()
    return lambda query_QR: router(query_QR) - log_size_L


def probes_of(lists: int) -> list[int]:
    """Numbers of lists to measure at."""
    return [number for number in PROBES if number < lists] + [lists] * (lists <= PROBES[-1])
