"""Walk over all tiles of the similarity matrix, keeping the few pairs that may reach a floor of one of their sides.

Most of a tile is dismissed by the maxima of groups of 32 scores, several times cheaper than comparing each.
Searching a set within itself, each pair is met once and serves both its queries: only tiles on and above the diagonal
are formed.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.neighbors.coarse import CoarseRows, product, thresholds

GROUP = 32
TILE_ROWS = 1024
TILE_COLUMNS = 2048
_FULL = 0.1  # share of a tile's scores hit from which the most crowded queries are given up


@dataclass(frozen=True)
class Hits:
    """Candidate pairs of one tile, sorted by row: positions rows.start + row_P and columns.start + column_P.

    In a symmetric walk row < column and either may be the query; otherwise rows are queries.
    """

    rows: slice
    columns: slice
    row_P: Tensor
    column_P: Tensor


class Scan:
    """One walk. floor_Q: float64 exact scores from which on pairs matter, +inf: none do; as many as real queries.

    A query so crowded that it would swamp a tile is given up: noted in `given_up_Q`, its hits incomplete.
    """

    def __init__(
        self, query: CoarseRows, gallery: CoarseRows, floor_Q: Tensor, num_gallery: int, *, symmetric: bool
    ) -> None:
        self.query, self.gallery, self.symmetric = query, gallery, symmetric
        self.num_gallery = num_gallery
        device = query.code_ND.device
        self.floor_Q = torch.full((len(query.code_ND),), float("inf"), dtype=torch.float64, device=device)
        self.floor_Q[: len(floor_Q)] = floor_Q
        self.given_up_Q = torch.zeros(len(query.code_ND), dtype=torch.bool, device=device)
        self._buffers = threading.local()

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each tile to look at."""
        for top in range(0, len(self.query.code_ND), TILE_ROWS):
            rows = slice(top, min(top + TILE_ROWS, len(self.query.code_ND)))
            first = top // TILE_COLUMNS * TILE_COLUMNS if self.symmetric else 0
            for left in range(first, len(self.gallery.code_ND), TILE_COLUMNS):
                yield rows, slice(left, left + TILE_COLUMNS)

    def hits(self, rows: slice, columns: slice) -> Hits:
        """Candidates of one tile; may be called from several threads."""
        flat_P, shape = self._above(rows, columns)
        if len(flat_P) > _FULL * shape.numel() and self._give_up(rows, columns):
            flat_P, _ = self._above(rows, columns)
        row_P = flat_P // TILE_COLUMNS
        column_P = flat_P - row_P * TILE_COLUMNS
        if self.symmetric and columns.start < rows.stop:
            keep_P = column_P + columns.start > row_P + rows.start
            row_P, column_P = row_P[keep_P], column_P[keep_P]
        if columns.stop > self.num_gallery:  # padding
            keep_P = column_P < self.num_gallery - columns.start
            row_P, column_P = row_P[keep_P], column_P[keep_P]
        return Hits(rows, columns, row_P, column_P)

    def _above(self, rows: slice, columns: slice) -> tuple[Tensor, torch.Size]:
        """Flat positions, ascending, of the tile's scores that reach a limit."""
        score_RC, limit_R, limit_C = self._scores(rows, columns)
        if limit_C is None:
            score_RC.sub_(limit_R[:, None])
        else:
            limit_RC = self._buffer("limit", score_RC.shape[0])
            score_RC.sub_(torch.minimum(limit_R[:, None], limit_C, out=limit_RC))
        group_GJ = score_RC.view(-1, GROUP)
        hit_H = (group_GJ.amax(1) >= 0).nonzero().squeeze(1)
        # true bytes are sought eight at a time first
        octet_O8 = (group_GJ.index_select(0, hit_H) >= 0).view(-1, 8)
        some_O = octet_O8.view(torch.int64).squeeze(1).nonzero().squeeze(1)
        within_P = octet_O8.index_select(0, some_O).view(-1).nonzero().squeeze(1)
        place_P = some_O.index_select(0, within_P >> 3) * 8 + (within_P & 7)
        return hit_H.index_select(0, place_P // GROUP) * GROUP + place_P % GROUP, score_RC.shape

    def _scores(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        score_RC = self._buffer("score", rows.stop - rows.start)
        product(self.query.code_ND[rows], self.gallery.code_ND[columns], score_RC)
        limit_R = thresholds(self.query, self.gallery, rows, columns, self.floor_Q[rows])
        if not self.symmetric:
            return score_RC, limit_R, None
        return score_RC, limit_R, thresholds(self.query, self.gallery, columns, rows, self.floor_Q[columns])

    def _buffer(self, name: str, rows: int) -> Tensor:
        """(rows, TILE_COLUMNS), one per thread, kept between tiles."""
        flat = getattr(self._buffers, name, None)
        if flat is None:
            flat = torch.empty(TILE_ROWS * TILE_COLUMNS, dtype=self.query.score_dtype, device=self.query.code_ND.device)
            setattr(self._buffers, name, flat)
        return flat[: rows * TILE_COLUMNS].view(rows, TILE_COLUMNS)

    def _give_up(self, rows: slice, columns: slice) -> bool:
        """Give up the queries that make the tile full; False where it is full of everyone's."""
        score_RC, limit_R, limit_C = self._scores(rows, columns)
        found = self._note((score_RC >= limit_R[:, None]).sum(1) > 2 * _FULL * score_RC.shape[1], rows)
        if limit_C is not None:
            found |= self._note((score_RC >= limit_C).sum(0) > 2 * _FULL * score_RC.shape[0], columns)
        return found

    def _note(self, crowded_R: Tensor, queries: slice) -> bool:
        self.floor_Q[queries][crowded_R] = float("inf")
        self.given_up_Q[queries][crowded_R] = True
        return bool(crowded_R.any())
