"""Pairs for verification, drawn from labelled embeddings the same way every time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import Metric, pair_similarity


@dataclass(frozen=True)
class DrawnPairs:
    """Similarities float32 of same and different pairs, and how many of each exist in all."""

    same_P: Tensor
    different_P: Tensor
    same_index_P2: Tensor
    different_index_P2: Tensor
    total_same: int
    total_different: int


def draw_pairs(
    emb_ND: Tensor, label_N: Tensor, *, max_pairs: int = 2_000_000, seed: int = 0, metric: Metric = "cosine"
) -> DrawnPairs:
    """Unordered pairs i < j: all of a sort where they are at most max_pairs, else max_pairs drawn by seed, none twice.

    emb_ND: floating-point rows; label_N: int64. Memory: about 60 bytes per pair beside one copy of the vectors.
    Raises DataError where one of the sorts has no pair.
    """
    label_N = label_N.long()
    generator = torch.Generator().manual_seed(seed)
    number = len(label_N)
    order = label_N.cpu().sort(stable=True)
    _, size_C = order.values.unique_consecutive(return_counts=True)
    total_same = int((size_C * (size_C - 1) // 2).sum())
    total_different = number * (number - 1) // 2 - total_same
    if total_same == 0 or total_different == 0:
        raise DataError(
            "metrics.no-pairs",
            f"{number} items give {total_same} same and {total_different} different pairs; verification needs both",
            remedy="evaluate on at least two classes, one of them with two items",
        )
    same_P2 = _same_pairs(order.indices, size_C, _choose(total_same, max_pairs, generator))
    different_P2 = _different_pairs(label_N.cpu(), total_different, max_pairs, generator)
    return DrawnPairs(
        pair_similarity(emb_ND, same_P2.to(emb_ND.device), metric=metric),
        pair_similarity(emb_ND, different_P2.to(emb_ND.device), metric=metric),
        same_P2,
        different_P2,
        total_same,
        total_different,
    )


def _choose(total: int, most: int, generator: torch.Generator) -> Tensor:
    """At most `most` of range(total), ascending, without repetition."""
    if total <= most:
        return torch.arange(total)
    if total <= 4 * most:
        return torch.randperm(total, generator=generator)[:most].sort().values
    drawn = torch.randint(total, (most,), generator=generator).unique()
    while len(drawn) < most:
        drawn = torch.cat([drawn, torch.randint(total, (most - len(drawn),), generator=generator)]).unique()
    return drawn


def _same_pairs(item_N: Tensor, size_C: Tensor, index_P: Tensor) -> Tensor:
    """The index-th pairs when classes are listed one after the other (item_N: items sorted by class)."""
    pairs_C = size_C * (size_C - 1) // 2
    end_C, first_C = pairs_C.cumsum(0), size_C.cumsum(0) - size_C
    class_P = torch.searchsorted(end_C, index_P, right=True)
    low_P, high_P = _unrank(index_P - (end_C - pairs_C)[class_P])
    pair_P2 = torch.stack([item_N[first_C[class_P] + low_P], item_N[first_C[class_P] + high_P]], 1)
    return _sorted(pair_P2)


def _different_pairs(label_N: Tensor, total: int, most: int, generator: torch.Generator) -> Tensor:
    everything = len(label_N) * (len(label_N) - 1) // 2
    if total <= most and everything <= 8 * most:
        kept = _with_other_label(label_N, torch.arange(everything))
        return _sorted(kept)
    # drawing among all pairs and dropping the same ones leaves the different ones equally likely
    wanted = min(most, total)
    index_P = torch.empty(0, dtype=torch.int64)
    kept_P2 = torch.empty(0, 2, dtype=torch.int64)
    while len(kept_P2) < wanted:
        missing = wanted - len(kept_P2)
        index_P = torch.cat([index_P, torch.randint(everything, (2 * missing + 16,), generator=generator)]).unique()
        kept_P2 = _with_other_label(label_N, index_P)
    chosen = torch.randperm(len(kept_P2), generator=generator)[:wanted]
    return _sorted(kept_P2[chosen])


def _with_other_label(label_N: Tensor, index_P: Tensor) -> Tensor:
    low_P, high_P = _unrank(index_P)
    keep_P = label_N[low_P] != label_N[high_P]
    return torch.stack([low_P[keep_P], high_P[keep_P]], 1)


def _unrank(index_P: Tensor) -> tuple[Tensor, Tensor]:
    """Pair number -> (low, high), low < high, in the order (0,1), (0,2), (1,2), (0,3), ..."""
    high_P = ((1 + (1 + 8 * index_P.double()).sqrt()) / 2).long()
    # the root may round across an integer
    high_P -= (high_P * (high_P - 1) // 2 > index_P).long()
    high_P += ((high_P + 1) * high_P // 2 <= index_P).long()
    return index_P - high_P * (high_P - 1) // 2, high_P


def _sorted(pair_P2: Tensor) -> Tensor:
    """Low index first, then rows by (low, high)."""
    pair_P2 = pair_P2.sort(dim=1).values
    pair_P2 = pair_P2[pair_P2[:, 1].sort(stable=True).indices]
    return pair_P2[pair_P2[:, 0].sort(stable=True).indices]
