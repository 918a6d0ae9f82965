"""Which pairs of images may be copies of each other: nearest descriptors, of whole pictures and of parts of them.

Small sets are searched exactly. Larger ones are first sorted into lists around centres, and a picture looks only into
the lists nearest to it, so that the work grows like N sqrt(N): copies are so near that they share a list.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kinsight import progress
from kinsight.checking.descriptors import BOXES, describe

EXACT_UP_TO = 8192  # images
PROBES = 12  # lists that a picture looks into
NEIGHBOURS = 2  # nearest pictures to each part
KEPT = 8  # pairs kept for each picture, over all its parts
_BLOCK = 4096
_PASSES = 4  # of the search for centres
_SAMPLE = 64  # pictures per centre that the search for centres looks at


class Pairs(NamedTuple):
    """part_P: image a part of which looks like image whole_P; box_P: which part, in BOXES; alike_P: cosine."""

    part_P: npt.NDArray[np.int64]
    whole_P: npt.NDArray[np.int64]
    box_P: npt.NDArray[np.int64]
    alike_P: npt.NDArray[np.float32]


def candidate_pairs(small_MHW: npt.NDArray[np.uint8], least: float) -> Pairs:
    """Pairs of pictures one of which may be a copy, or a crop, of the other; each unordered pair once, its best box.

    small_MHW: uint8 small pictures. least: cosine from which on a pair is looked at.
    """
    starts = range(0, max(1, len(small_MHW)), _BLOCK)
    whole_MD = torch.cat([describe(small_MHW[start : start + _BLOCK]) for start in starts])
    known = whole_MD.any(1).nonzero().squeeze(1)
    found: list[Pairs] = []
    if len(known) > 1:
        lists = _Lists(whole_MD[known])
        with progress.task("compare", len(BOXES) * len(known), "parts") as task:
            for start in range(0, len(known), _BLOCK):
                rows = known[start : start + _BLOCK]
                found.append(_of_block(small_MHW, lists, known, rows, start, least, task))
    return _unordered(_joined(found))


def _of_block(
    small_MHW: npt.NDArray[np.uint8],
    lists: "_Lists",
    known: Tensor,
    rows: Tensor,
    start: int,
    least: float,
    task: progress.Task,
) -> Pairs:
    own = torch.arange(start, start + len(rows))
    small_BHW = small_MHW[rows.numpy()]
    pairs = []
    for box, part in enumerate(BOXES):
        part_BD = describe(small_BHW, part)
        shown = part_BD.any(1).nonzero().squeeze(1)
        alike_QK, index_QK = lists.nearest(part_BD[shown], own[shown])
        query, place = ((alike_QK >= least) & (index_QK >= 0)).nonzero(as_tuple=True)
        part_P, whole_P = rows[shown[query]], known[index_QK[query, place]]
        box_P = torch.full_like(part_P, box)
        pairs.append(Pairs(part_P.numpy(), whole_P.numpy(), box_P.numpy(), alike_QK[query, place].numpy()))
        task.advance(len(rows))
    return _best(_joined(pairs))


class _Lists:
    """Descriptors sorted into lists around centres; one list where they are few."""

    def __init__(self, emb_ND: Tensor) -> None:
        self.emb_ND = emb_ND
        count = len(emb_ND)
        self.centre_LD = _centres(emb_ND, round(count**0.5) if count > EXACT_UP_TO else 1)
        parts = [_nearest_centres(emb_ND[at : at + _BLOCK], self.centre_LD, 1) for at in range(0, count, _BLOCK)]
        list_N = torch.cat(parts)[:, 0]
        self.order_N = list_N.argsort(stable=True)
        self.bound_L1 = torch.searchsorted(list_N[self.order_N], torch.arange(len(self.centre_LD) + 1)).tolist()
        self.sorted_ND = emb_ND[self.order_N]

    def nearest(self, query_QD: Tensor, own_Q: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest few of each query but itself: cosines (Q, K) and numbers (Q, K), -1 for none, in no order."""
        probes = min(PROBES, len(self.centre_LD))
        probe_QP = _nearest_centres(query_QD, self.centre_LD, probes)
        list_T, order_T = probe_QP.flatten().sort(stable=True)
        bounds = torch.searchsorted(list_T, torch.arange(len(self.centre_LD) + 1)).tolist()
        alike_TK = torch.full((len(query_QD) * probes, NEIGHBOURS), -2.0)
        index_TK = torch.full((len(query_QD) * probes, NEIGHBOURS), -1)
        for number in range(len(self.centre_LD)):
            low, high = self.bound_L1[number : number + 2]
            task_T = order_T[bounds[number] : bounds[number + 1]]
            if low == high or not len(task_T):
                continue
            members, queries = self.order_N[low:high], task_T // probes
            score_TN = query_QD[queries] @ self.sorted_ND[low:high].T
            score_TN.masked_fill_(own_Q[queries, None] == members, -2.0)
            alike, place = score_TN.topk(min(NEIGHBOURS, high - low), 1)
            alike_TK[task_T, : alike.shape[1]] = alike
            index_TK[task_T, : alike.shape[1]] = members[place]
        alike_QT, index_QT = alike_TK.view(len(query_QD), -1), index_TK.view(len(query_QD), -1)
        alike_QK, best = alike_QT.topk(NEIGHBOURS, 1)
        return alike_QK, torch.where(alike_QK > -2.0, index_QT.gather(1, best), -1)


def _nearest_centres(query_QD: Tensor, centre_LD: Tensor, count: int) -> Tensor:
    return (query_QD @ centre_LD.T).topk(count, 1).indices


def _centres(emb_ND: Tensor, count: int) -> Tensor:
    """Unit centres by spherical k-means on an evenly spread sample: the same for the same vectors."""
    sample = emb_ND[torch.linspace(0, len(emb_ND) - 1, min(len(emb_ND), _SAMPLE * count)).long()]
    centre_LD = sample[torch.linspace(0, len(sample) - 1, count).long()].clone()
    for _ in range(_PASSES):
        nearest_N = torch.cat(
            [(sample[start : start + _BLOCK] @ centre_LD.T).argmax(1) for start in range(0, len(sample), _BLOCK)]
        )
        total_LD = torch.zeros_like(centre_LD).index_add_(0, nearest_N, sample)
        filled = total_LD.norm(dim=1, keepdim=True) > 1e-3
        centre_LD = torch.where(filled, torch.nn.functional.normalize(total_LD, dim=1), centre_LD)
    return centre_LD


def _joined(pairs: list[Pairs]) -> Pairs:
    if not pairs:
        none = np.zeros(0, np.int64)
        return Pairs(none, none, none, np.zeros(0, np.float32))
    parts, wholes, boxes, alike = zip(*pairs, strict=True)
    return Pairs(np.concatenate(parts), np.concatenate(wholes), np.concatenate(boxes), np.concatenate(alike))


def taken(pairs: Pairs, rows: npt.NDArray[np.int64]) -> Pairs:
    """The pairs at `rows`."""
    return Pairs(pairs.part_P[rows], pairs.whole_P[rows], pairs.box_P[rows], pairs.alike_P[rows])


def _best(pairs: Pairs) -> Pairs:
    """Of each (part, whole) the best box, and of each part the best few wholes."""
    order = np.lexsort((pairs.box_P, -pairs.alike_P, pairs.whole_P, pairs.part_P))
    pairs = taken(pairs, order)
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(pairs.part_P) != 0) | (np.diff(pairs.whole_P) != 0)
    pairs = taken(pairs, np.flatnonzero(new))
    pairs = taken(pairs, np.lexsort((pairs.whole_P, -pairs.alike_P, pairs.part_P)))
    first = np.searchsorted(pairs.part_P, pairs.part_P)
    return taken(pairs, np.flatnonzero(np.arange(len(first)) - first < KEPT))


def _unordered(pairs: Pairs) -> Pairs:
    """Each pair once, from the side that looks more alike."""
    low, high = np.minimum(pairs.part_P, pairs.whole_P), np.maximum(pairs.part_P, pairs.whole_P)
    order = np.lexsort((pairs.part_P, -pairs.alike_P, high, low))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)
    return taken(pairs, order[new])
