"""Float32 scores of scattered pairs within two blocks of rows, with their error bound."""

import functools
import warnings

import torch
from torch import Tensor


def float32_error(dim: int) -> float:
    """Bound on |float32 score - exact score| for rows of at most unit length, terms added in any order."""
    return (dim + 2) * 2.0**-24


def float32_pairs(query_RD: Tensor, gallery_CD: Tensor, row_P: Tensor, column_P: Tensor) -> Tensor:
    """float32 inner products (P,) of pairs sorted by row.

    sampled_addmm multiplies only the stored positions and reads the second factor row by row: no gathered copy, and
    with both blocks in the cache it costs a tenth of gathering.
    """
    start_R = torch.zeros(len(query_RD) + 1, dtype=torch.int64, device=row_P.device)
    torch.cumsum(torch.bincount(row_P, minlength=len(query_RD)), 0, out=start_R[1:])
    wanted = _csr(start_R, column_P, (len(query_RD), len(gallery_CD)))
    return torch.sparse.sampled_addmm(wanted, query_RD, gallery_CD.T, beta=0.0).values()


def _csr(start_R: Tensor, column_P: Tensor, size: tuple[int, int]) -> Tensor:
    value_P = torch.zeros(len(column_P), device=column_P.device)
    return torch.sparse_csr_tensor(start_R, column_P, value_P, size=size, check_invariants=False)


@functools.cache
def hear_warning() -> None:
    """Torch says once per process that sparse CSR support is in beta state: have that over, before threads start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        _csr(torch.zeros(2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), (1, 1))
