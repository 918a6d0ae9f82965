"""Vectors in fewer or better dimensions: principal components, whitening, the first dimensions alone.

A projection is fitted on vectors that are not searched for: those of the gallery, or of another set.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.neighbors.vectors import row_norms

_ROWS = 4096
_NOTHING = 1e-10  # of the largest variance: what rounding leaves where there is none


@dataclass(frozen=True)
class Projection:
    """y = (x - mean_D) @ axes_DE, float64. normalize: rows are scaled to unit length before and after.

    variance_E: of the fitted vectors along each axis; kept: the share of all their variance that the axes hold.
    """

    mean_D: Tensor
    axes_DE: Tensor
    variance_E: Tensor
    kept: float
    normalize: bool

    def __call__(self, emb_ND: Tensor, name: str = "embeddings") -> Tensor:
        """Projected rows, float32 (N, E). Raises DataError for NaN, another length, or a row that falls on the mean."""
        if emb_ND.shape[1] != len(self.mean_D):
            raise DataError(
                "projection.dimension",
                f"{name} have {emb_ND.shape[1]} dimensions, the projection was fitted on {len(self.mean_D)}",
                remedy="embed both with the same model",
            )
        norm_N = row_norms(emb_ND, name, "cosine" if self.normalize else "l2").to(emb_ND.device)
        mean_D, axes_DE = self.mean_D.to(emb_ND.device), self.axes_DE.to(emb_ND.device)
        out_NE = torch.empty(len(emb_ND), axes_DE.shape[1], device=emb_ND.device)
        for start in range(0, len(emb_ND), _ROWS):
            here = slice(start, start + _ROWS)
            row_BD = _scaled(emb_ND[here], norm_N[here], self.normalize)
            row_BE = (row_BD - mean_D) @ axes_DE
            if self.normalize:
                length_B1 = row_BE.norm(dim=1, keepdim=True)
                _need_length(length_B1, start, name, "falls on the mean of the fitted vectors")
                row_BE /= length_B1
            out_NE[here] = row_BE
        return out_NE


def fit_projection(
    emb_ND: Tensor, dim: int | None = None, *, whiten: bool = False, shrinkage: float = 0.0, normalize: bool = True
) -> Projection:
    """Principal components of `emb_ND` (floating-point rows), the `dim` with the most variance; default: all.

    whiten: each axis is divided by its standard deviation (Jegou & Chum 2012). shrinkage: share, from 0 to 1, by which
    the variances are first drawn towards their mean (Ledoit & Wolf 2004), so that axes with hardly any variance are not
    blown up; adding an epsilon e to them is the shrinkage e / (e + mean variance). normalize: rows count by direction,
    scaled to unit length before and after the projection.
    Raises SpecError: dim above the vectors'; DataError: NaN, too few vectors or too little variance to whiten by.
    """
    number, full = emb_ND.shape
    wanted = full if dim is None else dim
    if not 1 <= wanted <= full:
        raise SpecError(
            "projection.dim",
            f"is {wanted}, the vectors have {full} dimensions",
            field="dim",
            remedy=f"give a number from 1 to {full}",
        )
    if not 0 <= shrinkage <= 1:
        raise SpecError("projection.shrinkage", f"is {shrinkage}: must be from 0 to 1", field="shrinkage")
    norm_N = row_norms(emb_ND, "vectors to fit on", "cosine" if normalize else "l2").to(emb_ND.device)
    if number < 2 or (whiten and shrinkage == 0 and number <= wanted):
        least = wanted + 1 if whiten and shrinkage == 0 else 2
        raise DataError(
            "projection.few-vectors",
            f"{number} vectors are too few to {'whiten' if whiten else 'find'} {wanted} dimensions by; "
            f"{least} are needed",
            remedy="fit on more vectors, keep fewer dimensions, or shrink" if whiten else "fit on more vectors",
        )
    mean_D, covariance_DD = _moments(emb_ND, norm_N, normalize)
    variance_D, axis_DD = torch.linalg.eigh(covariance_DD)
    variance_D, axis_DD = variance_D.flip(0).clamp_(min=0), axis_DD.flip(1)
    # an axis has no direction of its own: the larger half decides, whatever the library gives
    axis_DD = axis_DD * torch.where(axis_DD.gather(0, axis_DD.abs().argmax(0, keepdim=True)) < 0, -1.0, 1.0)
    total = float(variance_D.sum())
    if total <= 0:
        raise DataError("projection.no-variance", "all vectors to fit on are the same", remedy="fit on others")
    axes_DE, variance_E = axis_DD[:, :wanted], variance_D[:wanted]
    if whiten:
        shrunk_E = (1 - shrinkage) * variance_E + shrinkage * variance_D.mean()
        if float(shrunk_E[-1]) <= _NOTHING * float(shrunk_E[0]):
            rank = int((variance_D > _NOTHING * variance_D[0]).sum())
            raise DataError(
                "projection.rank",
                f"the vectors to fit on vary in {rank} dimensions only; {wanted} are to be whitened",
                remedy=f"keep {rank} dimensions or fewer, or shrink",
            )
        axes_DE = axes_DE / shrunk_E.sqrt()
    return Projection(mean_D.cpu(), axes_DE.cpu(), variance_E.cpu(), float(variance_E.sum()) / total, normalize)


def shortened(emb_ND: Tensor, dim: int, name: str = "embeddings") -> Tensor:
    """The first `dim` dimensions, each row scaled back to its whole length (Kusupati et al. 2022): float32 (N, dim).

    Raises SpecError: dim above the vectors'; DataError: NaN, or a row that is zero in those dimensions but not in all.
    """
    if not 1 <= dim <= emb_ND.shape[1]:
        raise SpecError(
            "projection.dim",
            f"is {dim}, the vectors have {emb_ND.shape[1]} dimensions",
            field="dim",
            remedy=f"give a number from 1 to {emb_ND.shape[1]}",
        )
    norm_N = row_norms(emb_ND, name, "l2").to(emb_ND.device)
    out_NE = torch.empty(len(emb_ND), dim, device=emb_ND.device)
    for start in range(0, len(emb_ND), _ROWS):
        here = slice(start, start + _ROWS)
        row_BE = emb_ND[here, :dim].double()
        length_B1 = row_BE.norm(dim=1, keepdim=True)
        whole_B1 = norm_N[here, None]
        _need_length(torch.where(whole_B1 > 0, length_B1, 1.0), start, name, f"is zero in its first {dim} dimensions")
        out_NE[here] = row_BE * (whole_B1 / length_B1.clamp(min=1e-300))
    return out_NE


def _scaled(row_BD: Tensor, norm_B: Tensor, normalize: bool) -> Tensor:
    return row_BD.double() / norm_B[:, None] if normalize else row_BD.double()


def _moments(emb_ND: Tensor, norm_N: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Mean and covariance, float64."""
    number, dim = emb_ND.shape
    mean_D = torch.zeros(dim, dtype=torch.float64, device=emb_ND.device)
    covariance_DD = torch.zeros(dim, dim, dtype=torch.float64, device=emb_ND.device)
    starts = range(0, number, _ROWS)
    for start in starts:
        here = slice(start, start + _ROWS)
        mean_D += _scaled(emb_ND[here], norm_N[here], normalize).sum(0) / number
    for start in starts:
        here = slice(start, start + _ROWS)
        off_BD = _scaled(emb_ND[here], norm_N[here], normalize) - mean_D
        covariance_DD += off_BD.T @ off_BD / (number - 1)
    return mean_D, covariance_DD


def _need_length(length_B1: Tensor, start: int, name: str, what: str) -> None:
    bad_B = (length_B1 <= 1e-12).squeeze(1)
    if bool(bad_B.any()):
        raise DataError(
            "projection.zero",
            f"{name} row {start + int(bad_B.int().argmax())} {what}: no direction is left",
            remedy="keep more dimensions, or leave the item out",
        )
