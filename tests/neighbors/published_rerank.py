"""k-reciprocal re-ranking as the paper (arXiv 1701.08398) writes it: sets, dense float64 vectors, every pair."""

import math

import numpy as np


def lists(distance_UU: np.ndarray) -> list[list[int]]:
    """Each item first, then the others by distance, ties by number."""
    number = len(distance_UU)
    return [
        [p, *sorted((g for g in range(number) if g != p), key=lambda g: (distance_UU[p, g], g))] for p in range(number)
    ]


def squared_distances(row_UD: np.ndarray, metric: str) -> np.ndarray:
    row_UD = row_UD.astype(np.float64)
    if metric == "cosine":
        row_UD = row_UD / np.linalg.norm(row_UD, axis=1, keepdims=True)
    return ((row_UD[:, None] - row_UD[None]) ** 2).sum(2)


def jaccard_distances(row_UD: np.ndarray, k1: int, k2: int, metric: str = "cosine") -> tuple[np.ndarray, np.ndarray]:
    """(d_J, d) of all pairs; d is each item's squared distances divided by its largest."""
    distance_UU = squared_distances(row_UD, metric)
    order = lists(distance_UU)
    distance_UU = distance_UU / distance_UU.max(1, keepdims=True)
    number = len(row_UD)

    def near(p: int, k: int) -> set[int]:
        return set(order[p][: k + 1])

    def mutual(p: int, k: int) -> set[int]:
        return {g for g in near(p, k) if p in near(g, k)}

    vector_UU = np.zeros((number, number))
    half = round(k1 / 2)
    for p in range(number):
        own = mutual(p, k1)
        grown = set(own)
        for q in own:
            smaller = mutual(q, half)
            if len(own & smaller) >= 2 / 3 * len(smaller) - 1e-12:
                grown |= smaller
        for g in grown:
            vector_UU[p, g] = math.exp(-distance_UU[p, g])
    vector_UU = np.stack([vector_UU[order[p][:k2]].mean(0) for p in range(number)])
    low_UU = np.stack([np.minimum(vector_UU[p], vector_UU).sum(1) for p in range(number)])
    high_UU = np.stack([np.maximum(vector_UU[p], vector_UU).sum(1) for p in range(number)])
    return 1 - low_UU / high_UU, distance_UU


def final_distances(row_UD: np.ndarray, k1: int, k2: int, weight: float, metric: str = "cosine") -> np.ndarray:
    jaccard_UU, distance_UU = jaccard_distances(row_UD, k1, k2, metric)
    return (1 - weight) * jaccard_UU + weight * distance_UU
