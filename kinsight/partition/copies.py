"""Which vectors are put into further lists: rules under one interface, all with the same budget.

A budget is the mean number of extra copies of a vector. The rules that rank all vectors together spend it where it
helps most: some vectors get several copies, most none.

Shapes: N vectors, L lists, C lists of a vector at most, E pairs (vector, further list), Q pseudo-queries, K neighbours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.partition.clusters import Clusters
from kinsight.partition.ratio import Further, further, fuzzy_of
from kinsight.partition.routers import Router
from kinsight.partition.space import Space

MOST_COPIES = 5
MISS_NEIGHBORS = 20
"""Of a vector, by whose lists the rule `misses` decides which searches miss it."""
_BLOCK = 4096
_RESIDUAL_WEIGHT = 1.0


@dataclass(frozen=True)
class Candidates:
    """Pairs that may become copies: vector_E, list_E int64; gain_E: the greater, the earlier. No pair twice."""

    vector_E: Tensor
    list_E: Tensor
    gain_E: Tensor


def place(list_N: Tensor, candidates: Candidates, budget: float, most: int = MOST_COPIES) -> Tensor:
    """The lists of every vector, int64 (N, C), the first as in `list_N`, -1 for none.

    The pairs of most gain are taken until there are `budget` times N, at most `most` of a vector.
    """
    order_E = candidates.gain_E.argsort(descending=True, stable=True)
    slot_E = _rank_within(candidates.vector_E[order_E]) + 1
    order_E, slot_E = order_E[slot_E <= most], slot_E[slot_E <= most]
    taken = min(len(order_E), round(budget * len(list_N)))
    order_E, slot_E = order_E[:taken], slot_E[:taken]
    width = 1 + (int(slot_E.max()) if len(slot_E) else 0)
    list_NC = torch.full((len(list_N), width), -1, dtype=torch.int64, device=list_N.device)
    list_NC[:, 0] = list_N
    list_NC[candidates.vector_E[order_E], slot_E] = candidates.list_E[order_E]
    return list_NC


def by_misses(
    probe_QP: Tensor, neighbor_QK: Tensor, list_N: Tensor, lists: int, weight_QK: Tensor | None = None
) -> Candidates:
    """Pairs by how many searches miss the vector now and would find it then.

    probe_QP: int64, the lists a pseudo-query looks into first. neighbor_QK: int64, its nearest vectors, nearest first,
    -1 for none. list_N: the list of each vector. weight_QK: what a miss weighs; default: 1.5, of the
    nearest, to 0.5.
    """
    if weight_QK is None:
        weight_QK = torch.linspace(1.5, 0.5, neighbor_QK.shape[1], device=neighbor_QK.device).expand(neighbor_QK.shape)
    keys, gains = [], []
    for start in range(0, len(neighbor_QK), _BLOCK):
        neighbor_BK, probe_BP = neighbor_QK[start : start + _BLOCK], probe_QP[start : start + _BLOCK]
        at_home_BKP = list_N[neighbor_BK.clamp_min(0)][:, :, None] == probe_BP[:, None, :]
        missed_BK = ~at_home_BKP.any(2) & (neighbor_BK >= 0)
        key_BKP = neighbor_BK[:, :, None] * lists + probe_BP[:, None, :]
        keys.append(key_BKP[missed_BK].flatten())
        weight_M = weight_QK[start : start + _BLOCK][missed_BK]
        gains.append(weight_M.repeat_interleave(probe_BP.shape[1]))
    key_E, where_T = torch.cat(keys).unique(return_inverse=True)
    gain_E = torch.zeros(len(key_E), device=key_E.device).index_add_(0, where_T, torch.cat(gains))
    return Candidates(key_E // lists, key_E % lists, gain_E)


def by_ratio(found: Further) -> Candidates:
    """Pairs by how near a further centre comes to the nearest one: the documented rule of IVFast."""
    row_E, place_E = (found.other_NF >= 0).nonzero(as_tuple=True)
    return Candidates(row_E, found.other_NF[row_E, place_E].long(), found.gain_NF[row_E, place_E])


def by_probability(log_share_NL: Tensor, list_N: Tensor, fuzzy: int = 4) -> Candidates:
    """Pairs by the share of neighbours that a further list holds by the router's account: needs no neighbours."""
    share_NF, list_NF = log_share_NL.topk(min(fuzzy, log_share_NL.shape[1]), dim=1)
    return _others(list_NF, share_NF, list_N)


def by_residual(vector_ND: Tensor, clusters: Clusters, list_N: Tensor, *, weight: float, parallel: bool) -> Candidates:
    """Pairs by the loss of the further list, which takes into account where the first one errs.

    parallel (SOAR, Sun et al. 2023, for inner products): |r'|^2 + weight (r' . r / |r|)^2.
    Otherwise (AIR, for distances): |r'|^2 + weight r . r'. r, r': residuals of the first and the further list.
    Every vector has one pair, and those with the least loss relative to the first residual come first.
    """
    residual_ND = vector_ND - clusters.centre_LD[list_N]
    length_N = residual_ND.square().sum(1)
    direction_ND = residual_ND / length_N.clamp_min(1e-24).sqrt()[:, None] if parallel else residual_ND
    # r' = v - c': distances and products of all lists from the centres' products with v and with the direction
    square_NL = vector_ND.square().sum(1, keepdim=True) - 2 * vector_ND @ clusters.centre_LD.T
    square_NL += clusters.centre_LD.square().sum(1)
    along_NL = (vector_ND * direction_ND).sum(1, keepdim=True) - direction_ND @ clusters.centre_LD.T
    loss_NL = square_NL + weight * (along_NL.square() if parallel else along_NL)
    loss_NL.scatter_(1, list_N[:, None], torch.inf)
    loss_N, other_N = loss_NL.min(1)
    vector_N = torch.arange(len(list_N), device=list_N.device)
    return Candidates(vector_N, other_N, -(loss_N / length_N.clamp_min(1e-24)))


def by_rule(
    rule: str, row_BR: Tensor, home_B: Tensor, space: Space, clusters: Clusters, router: Router, budget: float
) -> Candidates:
    """Pairs by a rule that needs no neighbours: ratio, probability, soar or air; `budget` copies will be made of them.

    row_BR: routed vectors, home_B: their lists, both on the device of `clusters` and `router`; results are there too.
    """
    with torch.inference_mode():
        match rule:
            case "ratio":
                found = further(row_BR, clusters, fuzzy=fuzzy_of(budget), cosine=space.ranks_by_product)
                return by_ratio(found)
            case "probability":
                return by_probability(router(row_BR).log_softmax(1), home_B, 1 + fuzzy_of(budget))
            case _:
                return by_residual(row_BR, clusters, home_B, weight=_RESIDUAL_WEIGHT, parallel=rule == "soar")


def _others(list_NF: Tensor, gain_NF: Tensor, list_N: Tensor) -> Candidates:
    row_E, place_E = (list_NF != list_N[:, None]).nonzero(as_tuple=True)
    return Candidates(row_E, list_NF[row_E, place_E], gain_NF[row_E, place_E])


def _rank_within(group_E: Tensor) -> Tensor:
    """How many of the same group stand before each, in the order given."""
    order_E = group_E.argsort(stable=True)
    sorted_E = group_E[order_E]
    count_G = torch.bincount(sorted_E)
    first_G = count_G.cumsum(0) - count_G
    rank_E = torch.empty_like(group_E)
    rank_E[order_E] = torch.arange(len(group_E), device=group_E.device) - first_G[sorted_E]
    return rank_E
