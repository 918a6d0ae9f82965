"""Vectors that resemble SIFT descriptors, made: uneven, anisotropic clusters of low intrinsic dimension.

Families of clusters share directions of spread. A cluster's centre lies about its family's; its points spread along a
few of the family's directions, less along each further one, and a little everywhere. Sizes of clusters are log-normal.
Then, as the descriptors: negative numbers become 0, rows are brought to length 512, rounded, and cut off at 255.
Queries are drawn from the same distribution.

Shapes: N rows, D dimensions, C clusters, F families, R directions of a cluster.
"""

import numpy as np

DIM = 128
LENGTH = 512.0
_DIRECTIONS = 32  # of a family
_USED = 24  # of them by a cluster
_FALL = 10.0  # directions after which the spread has fallen to 1/e
_PER_CLUSTER = 400  # rows for each cluster, on average
_PER_FAMILY = 40  # clusters
_UNEVEN = 1.0  # standard deviation of the log of a cluster's size
_CENTRES, _SPREAD, _NOISE = 0.4, 0.6, 0.2  # relative to the mean length of a family's centre


def make_mixture(rows: int, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(base, queries), uint8 (N, 128). The same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    clusters = max(4, rows // _PER_CLUSTER)
    families = max(2, clusters // _PER_FAMILY)
    centre_FD = rng.gamma(0.6, 1.0, (families, DIM)).astype(np.float32)
    length = float(np.linalg.norm(centre_FD, axis=1).mean())
    axes_FRD = rng.normal(size=(families, _DIRECTIONS, DIM)).astype(np.float32) / np.sqrt(DIM)
    family_C = rng.integers(0, families, clusters)
    place_CR = rng.normal(size=(clusters, _DIRECTIONS)).astype(np.float32)
    centre_CD = centre_FD[family_C] + _CENTRES * length / np.sqrt(_DIRECTIONS) * np.einsum(
        "cr,crd->cd", place_CR, axes_FRD[family_C]
    )
    share_C = rng.lognormal(0.0, _UNEVEN, clusters)
    total = rows + queries
    cluster_N = np.sort(rng.choice(clusters, total, p=share_C / share_C.sum()))
    bounds_C = np.searchsorted(cluster_N, np.arange(clusters + 1))
    out_ND = np.empty((total, DIM), np.uint8)
    fall_R = np.exp(-np.arange(_USED) / _FALL).astype(np.float32)
    fall_R *= _SPREAD * length / np.linalg.norm(fall_R)
    for cluster in range(clusters):
        start, stop = bounds_C[cluster : cluster + 2]
        axes_RD = axes_FRD[family_C[cluster], rng.permutation(_DIRECTIONS)[:_USED]]
        width_R = fall_R * rng.lognormal(0, 0.4)
        spread_BR = rng.normal(size=(stop - start, _USED)).astype(np.float32) * width_R
        noise_BD = rng.normal(size=(stop - start, DIM)).astype(np.float32) * (_NOISE * length / np.sqrt(DIM))
        out_ND[start:stop] = _as_descriptors(centre_CD[cluster] + spread_BR @ axes_RD + noise_BD)
    order_N = rng.permutation(total)
    out_ND = out_ND[order_N]
    return out_ND[queries:], out_ND[:queries]


def _as_descriptors(row_BD: np.ndarray) -> np.ndarray:
    row_BD = np.maximum(row_BD, 0)
    length_B = np.maximum(np.linalg.norm(row_BD, axis=1, keepdims=True), 1e-6)
    return np.minimum(np.rint(row_BD * (LENGTH / length_B)), 255).astype(np.uint8)
