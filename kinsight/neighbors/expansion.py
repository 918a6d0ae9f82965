"""Vectors moved towards their neighbours: query expansion and database-side augmentation, for cosine similarity.

A row x becomes the direction of x + sum_i max(<x, y_i>, 0)^alpha y_i over its k nearest rows y_i, all at unit length.
alpha = 0 is average query expansion (Chum et al. 2007), the row itself included; above 0, alpha query expansion
(Radenovic, Tolias, Chum 2018, section 3.4). Applied to a gallery, it is database-side augmentation (Arandjelovic &
Zisserman 2012).
"""

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors.nearest_rows import Advance, Nearest, nearest
from kinsight.neighbors.vectors import row_norms

_ROWS = 2048


def expand_queries(
    query_QD: Tensor,
    gallery_ND: Tensor,
    k: int,
    *,
    alpha: float = 0.0,
    exclude: Tensor | None = None,
    device: torch.device | str | None = None,
    advance: Advance | None = None,
) -> Tensor:
    """Queries moved towards their k nearest gallery rows: float32 (Q, D), unit length.

    exclude: int64 (Q,), the gallery row that is the query itself and doesn't count as a neighbour, -1 for none; then
    search the gallery as it was, with the same `exclude`. Raises DataError as `topk`, and for a row that its neighbours
    cancel out.
    """
    _check_alpha(alpha)
    found = nearest(query_QD, gallery_ND, k, exclude=exclude, device=device, advance=advance)
    return moved(unit_rows(query_QD, "query"), unit_rows(gallery_ND, "gallery"), found, alpha)


def augment_gallery(
    gallery_ND: Tensor,
    k: int,
    *,
    alpha: float = 0.0,
    device: torch.device | str | None = None,
    advance: Advance | None = None,
) -> Tensor:
    """Gallery rows moved towards their k nearest other rows: float32 (N, D), unit length.

    For queries that are rows of the gallery themselves use `AugmentedSet`: here each would have helped what it finds.
    Raises DataError as `expand_queries`.
    """
    own_N = torch.arange(len(gallery_ND), device=gallery_ND.device)
    return expand_queries(gallery_ND, gallery_ND, k, alpha=alpha, exclude=own_N, device=device, advance=advance)


def moved(unit_QD: Tensor, unit_ND: Tensor, found: Nearest, alpha: float) -> Tensor:
    """The rows of `unit_QD` moved towards the rows of `unit_ND` that `found` names; on the device of unit_QD."""
    out_QD = torch.empty_like(unit_QD)
    for start in range(0, len(unit_QD), _ROWS):
        here = slice(start, start + _ROWS)
        weight_BK = weights(found.similarity_QK[here], alpha)
        out_QD[here] = summed(unit_QD[here], unit_ND, found.index_QK[here], weight_BK, start)
    return out_QD


def weights(similarity_BK: Tensor, alpha: float) -> Tensor:
    """How much each neighbour counts, beside 1 for the row itself."""
    return similarity_BK.clamp(min=0) ** alpha


def summed(unit_BD: Tensor, unit_ND: Tensor, index_BK: Tensor, weight_BK: Tensor, first: int = 0) -> Tensor:
    """Directions, float32, of rows plus weighted neighbours; summed in order of the neighbours, whatever the block."""
    total_BD = unit_BD.double()
    for place in range(index_BK.shape[1]):
        near_BD = unit_ND[index_BK[:, place].to(unit_ND.device)].double().to(total_BD.device)
        total_BD += near_BD.mul_(weight_BK[:, place, None].to(total_BD.device))
    norm_B1 = total_BD.norm(dim=1, keepdim=True)
    if bool((norm_B1 < 1e-9).any()):
        raise DataError(
            "neighbors.cancelled",
            f"row {first + int(norm_B1.argmin())} and its neighbours cancel each other out: no direction is left",
            remedy="use alpha expansion, which leaves opposite neighbours out, or a lower k",
        )
    return (total_BD / norm_B1).float()


def unit_rows(emb_ND: Tensor, name: str) -> Tensor:
    """Rows at unit length, float32. Raises DataError for NaN, infinity and zero vectors, naming the row."""
    norm_N = row_norms(emb_ND, name, "cosine").to(emb_ND.device)
    out_ND = torch.empty(emb_ND.shape, dtype=torch.float32, device=emb_ND.device)
    for start in range(0, len(emb_ND), _ROWS):
        here = slice(start, start + _ROWS)
        out_ND[here] = emb_ND[here].double() / norm_N[here, None]
    return out_ND


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < float("inf"):
        raise DataError("neighbors.alpha", f"alpha={alpha}: must be 0 or more", remedy="3 is usual, 0 is the average")
