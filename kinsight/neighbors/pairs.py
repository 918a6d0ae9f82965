"""Float32 scores of scattered pairs, with their error bound, at the speed of reading one row per pair."""

import warnings

import torch
from torch import Tensor

from kinsight.neighbors.vectors import GridVectors


def float32_error(dim: int) -> float:
    """Bound on |float32 score - exact score| for rows of at most unit length, terms added in any order."""
    return (dim + 2) * 2.0**-24


def float32_pairs(query: GridVectors, gallery: GridVectors, query_P: Tensor, gallery_P: Tensor) -> Tensor:
    """float32 inner products (P,) of pairs sorted by query."""
    if len(query_P) == 0:
        return torch.empty(0, device=query_P.device)
    row_U, count_U = query_P.unique_consecutive(return_counts=True)
    start_U = torch.zeros(len(row_U) + 1, dtype=torch.int64, device=query_P.device)
    torch.cumsum(count_U, 0, out=start_U[1:])
    wanted = _csr(start_U, gallery_P, (len(row_U), len(gallery)))
    # sampled_addmm multiplies only the stored positions and reads the second factor row by row: no gathered copy
    return torch.sparse.sampled_addmm(wanted, query.row_ND[row_U], gallery.row_ND.T, beta=0.0).values()


def _csr(start: Tensor, column: Tensor, size: tuple[int, int]) -> Tensor:
    value = torch.zeros(len(column), device=column.device)
    with warnings.catch_warnings():  # "sparse CSR support is in beta state": said once per process by torch
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(start, column, value, size=size, check_invariants=False)
