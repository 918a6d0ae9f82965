"""Where embeddings stand on a map: two dimensions in which neighbours stay neighbours as far as that can be.

t-SNE (van der Maaten & Hinton 2008) with interpolated forces (Linderman et al. 2019), on exact neighbours, from the
principal components (Kobak & Berens 2019), so that the same vectors give the same map.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinsight import progress
from kinsight.neighbors import Metric
from kinsight.reports.searching import search

PERPLEXITY = 15.0  # neighbours that count for each item; three times as many are looked at
_EARLY, _LATE = 125, 250  # iterations; the map hardly changes afterwards
_COARSE = 2.0  # of the grid that forces are interpolated on: a third of the time, and the same neighbours
_FEW = 6  # items below which there is nothing to arrange


def principal_map(vector_ND: Tensor, metric: Metric) -> np.ndarray:
    """float32 (N, 2): the two principal components; zeros where the vectors don't differ."""
    unit_ND = F.normalize(vector_ND.double(), dim=1) if metric == "cosine" else vector_ND.double()
    centred_ND = unit_ND - unit_ND.mean(0)
    _, axis_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    axis_D2 = axis_DD.flip(1)[:, :2]
    # An axis has no direction of its own: the larger half decides, whatever the library gives.
    axis_D2 = axis_D2 * torch.where(axis_D2.gather(0, axis_D2.abs().argmax(0, keepdim=True)) < 0, -1.0, 1.0)
    place_N2 = centred_ND @ axis_D2
    return F.pad(place_N2, (0, 2 - place_N2.shape[1])).float().cpu().numpy()


def neighbour_map(vector_ND: Tensor, metric: Metric, *, seed: int, device: torch.device) -> np.ndarray:
    """float32 (N, 2) by t-SNE. Two vectors of the same direction (cosine) or place share theirs."""
    start_N2 = principal_map(vector_ND, metric)
    number = len(vector_ND)
    if number < _FEW or not np.isfinite(start_N2).all() or float(start_N2.std()) == 0.0:
        return start_N2
    perplexity = min(PERPLEXITY, (number - 1) / 3)
    near_NK, distance_NK = _neighbours(vector_ND, metric, min(number - 1, math.ceil(3 * perplexity)), device)
    return _arranged(start_N2, near_NK, distance_NK, perplexity, seed)


def _neighbours(vector_ND: Tensor, metric: Metric, k: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (float64), nearest first. Inner products are no distances: with them, places count."""
    used: Metric = "cosine" if metric == "cosine" else "l2"
    with progress.task("neighbours", len(vector_ND), "items") as task:
        own_N = torch.arange(len(vector_ND))
        similarity_NK, index_NK = search(vector_ND, vector_ND, k, metric=used, exclude=own_N, device=device, task=task)
    squared_NK = 2 - 2 * similarity_NK.double() if used == "cosine" else -similarity_NK.double()
    return index_NK.numpy(), squared_NK.clamp(min=0).sqrt().numpy()


def _arranged(
    start_N2: np.ndarray, near_NK: np.ndarray, distance_NK: np.ndarray, perplexity: float, seed: int
) -> np.ndarray:
    from openTSNE import TSNEEmbedding, affinity, initialization
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    jobs = torch.get_num_threads()
    spread = float(distance_NK.mean()) or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own use of others
        likeness = affinity.PerplexityBasedNN(
            perplexity=perplexity,  # type: ignore[arg-type] - any number will do
            knn_index=PrecomputedNeighbors(near_NK, distance_NK / spread),
            n_jobs=jobs,
            random_state=seed,
        )
        place = TSNEEmbedding(
            initialization.rescale(start_N2.astype(np.float64)),
            likeness,
            negative_gradient_method="fft" if len(start_N2) > 4000 else "bh",
            n_jobs=jobs,
            random_state=seed,
        )
        with progress.task("map", _EARLY + _LATE, "iterations") as task:
            for count, pull in ((_EARLY, 12.0), (_LATE, 1.0)):
                for done in range(0, count, 25):
                    part = min(25, count - done)
                    place.optimize(part, exaggeration=pull, momentum=0.8, ints_in_interval=_COARSE, inplace=True)
                    task.advance(part)
    found = np.asarray(place, np.float32)
    return found if np.isfinite(found).all() else start_N2
