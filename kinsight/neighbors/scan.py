"""Walk over all tiles of the similarity matrix, keeping the few pairs that may reach a query's threshold.

Most of a tile is dismissed by the maxima of groups of 16 scores, which cost a tenth of comparing every score.
Searching a set within itself, each product serves both of its rows: only tiles on and above the diagonal are formed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.neighbors.coarse import CoarseRows, product

GROUP = 16
TILE_ROWS = 1024
TILE_COLUMNS = 2048
_CROWDED = 0.5  # share of a row's groups in one tile that may be hit before the row is given up


@dataclass(frozen=True)
class Hits:
    """Candidate pairs of one tile, sorted by query. query_P, gallery_P: int64 positions."""

    query_P: Tensor
    gallery_P: Tensor


def padded(code_ND: Tensor) -> Tensor:
    """Rows followed by zeros up to whole tiles, so that every product has one shape."""
    missing = -len(code_ND) % TILE_COLUMNS
    if not missing:
        return code_ND
    return torch.cat([code_ND, code_ND.new_zeros(missing, code_ND.shape[1])])


class Scan:
    """One walk: `threshold_Q` are coarse thresholds; a crowded query is raised to `never` and noted in `given_up_Q`."""

    def __init__(self, query: CoarseRows, gallery: CoarseRows, threshold_Q: Tensor, *, symmetric: bool) -> None:
        self.num_queries, self.num_gallery = len(query.code_ND), len(gallery.code_ND)
        self.symmetric = symmetric
        self.never = query.never
        self.query_ND = padded(query.code_ND)
        self.gallery_ND = self.query_ND if symmetric else padded(gallery.code_ND)
        self.threshold_Q = torch.full(
            (len(self.query_ND),), query.never, dtype=query.score_dtype, device=query.code_ND.device
        )
        self.threshold_Q[: self.num_queries] = threshold_Q
        self.given_up_Q = torch.zeros(len(self.query_ND), dtype=torch.bool, device=query.code_ND.device)
        shape = (TILE_ROWS, TILE_COLUMNS)
        self.score_RC = torch.empty(shape, dtype=query.score_dtype, device=query.code_ND.device)

    def run(self, step: Callable[[], None] | None = None) -> Iterator[Hits]:
        """Hits tile by tile; `step` is called after each tile."""
        for top in range(0, len(self.query_ND), TILE_ROWS):
            first = top // TILE_COLUMNS * TILE_COLUMNS if self.symmetric else 0
            for left in range(first, len(self.gallery_ND), TILE_COLUMNS):
                yield from self._tile(top, left)
            if step is not None:
                step()

    def _tile(self, top: int, left: int) -> Iterator[Hits]:
        rows, columns = slice(top, top + TILE_ROWS), slice(left, left + TILE_COLUMNS)
        product(self.query_ND[rows], self.gallery_ND[columns], self.score_RC)
        # columns left of the diagonal blocks were met as columns of an earlier row of tiles: not those twice
        yield self._clip(self._row_hits(top, left), lowest=top if self.symmetric else 0)
        if self.symmetric and left + TILE_COLUMNS > top + TILE_ROWS:
            start = max(left, top + TILE_ROWS)
            yield self._clip(self._column_hits(top, left, start - left), lowest=0)

    def _clip(self, hits: Hits, lowest: int) -> Hits:
        inside_P = hits.gallery_P < self.num_gallery
        if self.symmetric:
            inside_P &= (hits.gallery_P != hits.query_P) & (hits.gallery_P >= lowest)
        return Hits(hits.query_P[inside_P], hits.gallery_P[inside_P])

    def _row_hits(self, top: int, left: int) -> Hits:
        threshold_R = self.threshold_Q[top : top + TILE_ROWS]
        group_RG = self.score_RC.view(TILE_ROWS, -1, GROUP)
        hit_RG = group_RG.amax(2) >= threshold_R[:, None]
        self._give_up(hit_RG, top)
        row_H, group_H = hit_RG.nonzero(as_tuple=True)
        score_HJ = group_RG.view(-1, GROUP)[row_H * group_RG.shape[1] + group_H]
        hit_P, inner_P = (score_HJ >= threshold_R[row_H][:, None]).nonzero(as_tuple=True)
        return Hits(row_H[hit_P] + top, group_H[hit_P] * GROUP + inner_P + left)

    def _column_hits(self, top: int, left: int, skip: int) -> Hits:
        """Hits of the queries that are this tile's columns, from column `skip` on."""
        threshold_C = self.threshold_Q[left + skip : left + TILE_COLUMNS]
        maximum_GC = self.score_RC.view(-1, GROUP, TILE_COLUMNS)[:, :, skip:].amax(1)
        hit_CG = (maximum_GC >= threshold_C).T
        self._give_up(hit_CG, left + skip)
        column_H, group_H = hit_CG.nonzero(as_tuple=True)
        inner_J = torch.arange(GROUP, device=column_H.device) * TILE_COLUMNS
        flat_HJ = (group_H * (GROUP * TILE_COLUMNS) + column_H + skip)[:, None] + inner_J
        score_HJ = self.score_RC.view(-1)[flat_HJ]
        hit_P, inner_P = (score_HJ >= threshold_C[column_H][:, None]).nonzero(as_tuple=True)
        return Hits(column_H[hit_P] + left + skip, group_H[hit_P] * GROUP + inner_P + top)

    def _give_up(self, hit_RG: Tensor, first: int) -> None:
        crowded_R = hit_RG.sum(1) > _CROWDED * hit_RG.shape[1]
        if bool(crowded_R.any()):
            row_E = crowded_R.nonzero().squeeze(1)
            self.threshold_Q[row_E + first] = self.never
            self.given_up_Q[row_E + first] = True
            hit_RG[row_E] = False
