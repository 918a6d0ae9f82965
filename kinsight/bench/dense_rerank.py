"""k-reciprocal re-ranking as it is usually programmed: every pair in dense float32 matrices (Zhong et al. 2017).

Follows the authors' program step by step (their inverted lists for the Jaccard distance too) but where the paper says
otherwise: two thirds or more instead of more (eq. 5), and memberships not divided by their sum (eq. 7).
"""

import numpy as np


def dense_rerank(emb_ND: np.ndarray, k1: int, k2: int, weight: float, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64 (N, depth): each item's first `depth` others by the final distance; int64 (N,): the nearest before).

    Only the first `depth` by the original distance are ordered, as `neighbors.k_reciprocal` does.
    """
    unit_ND = emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)
    distance_NN = np.clip(2 - 2 * unit_ND @ unit_ND.T, 0, None)
    np.fill_diagonal(distance_NN, -1)  # itself first, whatever else is equal
    wide = max(k1, depth) + 1
    rank_NK = np.argpartition(distance_NN, wide - 1, axis=1)[:, :wide]
    by_distance = np.take_along_axis(distance_NN, rank_NK, 1).argsort(1, kind="stable")
    rank_NK = np.take_along_axis(rank_NK, by_distance, 1)
    np.fill_diagonal(distance_NN, 0)
    distance_NN /= distance_NN.max(1, keepdims=True)
    member_NN = _members(distance_NN, rank_NK, k1)
    if k2 > 1:
        member_NN = np.stack([member_NN[near_K[:k2]].mean(0) for near_K in rank_NK])
    jaccard_NN = _jaccard(member_NN)
    distance_NN *= weight
    distance_NN += (1 - weight) * jaccard_NN
    first_NK = rank_NK[:, 1 : depth + 1]
    order = np.take_along_axis(distance_NN, first_NK, 1).argsort(1, kind="stable")
    return np.take_along_axis(first_NK, order, 1).astype(np.int64), first_NK[:, 0].astype(np.int64)


def _members(distance_NN: np.ndarray, rank_NK: np.ndarray, k1: int) -> np.ndarray:
    member_NN = np.zeros_like(distance_NN)
    half = round(k1 / 2)
    for item in range(len(rank_NK)):
        own = _mutual(rank_NK, item, k1)
        grown = own
        for candidate in own:
            smaller = _mutual(rank_NK, candidate, half)
            if 3 * len(np.intersect1d(smaller, own)) >= 2 * len(smaller):
                grown = np.append(grown, smaller)
        grown = np.unique(grown)
        member_NN[item, grown] = np.exp(-distance_NN[item, grown])
    return member_NN


def _mutual(rank_NK: np.ndarray, item: int, k: int) -> np.ndarray:
    near_K = rank_NK[item, : k + 1]
    return near_K[(rank_NK[near_K, : k + 1] == item).any(1)]


def _jaccard(member_NN: np.ndarray) -> np.ndarray:
    number = len(member_NN)
    inverted = [np.flatnonzero(member_NN[:, column]) for column in range(number)]
    sum_N = member_NN.sum(1)
    out_NN = np.empty_like(member_NN)
    for item in range(number):
        low_N = np.zeros(number, member_NN.dtype)
        for column in np.flatnonzero(member_NN[item]):
            rows = inverted[column]
            low_N[rows] += np.minimum(member_NN[item, column], member_NN[rows, column])
        out_NN[item] = 1 - low_N / (sum_N[item] + sum_N - low_N)
    return out_NN
