"""Which drawings of one face have the same form for a person, whatever their weight.

Lines of a drawing: its ink, thinned. Two drawings have the same form when next to nothing of either, of the lines and
of the ink, lies REACH away from the other's: a bar more or less, as between A and Λ, never passes, where a measure over
the whole area would hardly notice it.

Shapes: N drawings of the face.
"""

from dataclasses import dataclass

import numpy as np

from kinsight.demo.glyphs import SIDE, candidates, glyph, signatures
from kinsight.demo.thinning import REACH, thin, widen

LINES_AWAY, INK_AWAY = 0.05, 0.03  # shares that may lie away
SIZE_LINES_AWAY, SIZE_INK_AWAY = 0.12, 0.08  # where two sizes of one letter are compared
PEN_REACH, PEN_BEYOND = 5.2, 0.02  # pixels, share: what a pen that follows the lines may leave blank
INK = 110  # from this level on a pixel counts as ink
_BLOCK = 512

Pair = tuple[int, int]  # code points, the smaller first


@dataclass(frozen=True)
class Face:
    """A face's drawings: code points ascending, `glyphs.signatures`, whether a pen could have drawn them (not a filled
    star); pairs of one form, and pairs near enough for two sizes of a letter.
    """

    codes: list[int]
    signature_NC: np.ndarray
    by_pen_N: np.ndarray
    same: frozenset[Pair]
    near: frozenset[Pair]


def study(face: str) -> Face:
    """Everything about a face that the choice of classes needs."""
    drawn = [(code, ink) for code in candidates(face) if (ink := glyph(face, code)) is not None]
    codes = [code for code, _ in drawn]
    glyph_NSS = np.stack([ink for _, ink in drawn])
    ink_NSS = glyph_NSS > INK
    line_NSS = np.concatenate([thin(ink_NSS[rows]) for rows in _blocks(len(codes))])
    lines, ink = _Compared(line_NSS), _Compared(ink_NSS)
    same: set[Pair] = set()
    near: set[Pair] = set()
    for rows in _blocks(len(codes)):
        away = lines.away(rows)
        for row, column in np.argwhere(away <= SIZE_LINES_AWAY):
            one, other = int(row) + rows.start, int(column)
            if one >= other or (ink_away := ink.away_pair(one, other)) > SIZE_INK_AWAY:
                continue
            near.add((codes[one], codes[other]))
            if away[row, column] <= LINES_AWAY and ink_away <= INK_AWAY:
                same.add((codes[one], codes[other]))
    blank_N = np.concatenate(
        [(ink_NSS[rows] & ~widen(line_NSS[rows], PEN_REACH)).sum((1, 2)) for rows in _blocks(len(codes))]
    )
    by_pen_N = blank_N <= PEN_BEYOND * ink_NSS.sum((1, 2))
    return Face(codes, signatures(glyph_NSS), by_pen_N, frozenset(same), frozenset(near))


class _Compared:
    """Drawings ready to be compared each with each. Counts stay below 2**24: exact in float32 in any order."""

    def __init__(self, on_NSS: np.ndarray) -> None:
        N = len(on_NSS)
        self._on = on_NSS.reshape(N, SIDE * SIDE).astype(np.float32)
        self._count = np.maximum(self._on.sum(1), 1)
        far = [~widen(on_NSS[rows], REACH + 0.2) for rows in _blocks(N)]
        self._far = np.concatenate(far).reshape(N, SIDE * SIDE).astype(np.float32)

    def away(self, rows: slice) -> np.ndarray:
        """[rows, N]: the larger of the two shares that lie away from the other drawing."""
        there = self._on[rows] @ self._far.T / self._count[rows, None]
        back = self._far[rows] @ self._on.T / self._count[None]
        return np.maximum(there, back)

    def away_pair(self, one: int, other: int) -> float:
        there = float(self._on[one] @ self._far[other]) / self._count[one]
        back = float(self._on[other] @ self._far[one]) / self._count[other]
        return max(there, back)


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
