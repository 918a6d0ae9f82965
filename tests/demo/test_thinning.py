"""Thinned ink: lines, connected as the ink was; and two forms compared."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from kinsight.demo.forms import INK, study
from kinsight.demo.glyphs import glyph
from kinsight.demo.thinning import thin, widen

EIGHT = np.ones((3, 3))


def ink(text: str, face: str = "DejaVuSans") -> np.ndarray:
    drawn = glyph(face, ord(text))
    assert drawn is not None
    return drawn > INK


def _parts(mask: np.ndarray, neighbours: np.ndarray | None = None) -> int:
    found: Any = ndimage.label(mask, neighbours)
    return found[1]


def _away(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the mask."""
    return np.asarray(ndimage.distance_transform_edt(~mask))


@pytest.mark.parametrize("text", list("ABOil%@=θ∞:"))
def test_lines_are_thin_inside_the_ink_and_as_connected(text: str):
    whole = ink(text)
    lines = thin(whole[None])[0]
    assert not (lines & ~whole).any()
    assert _parts(lines, EIGHT) == _parts(whole, EIGHT)
    assert _parts(~lines) == _parts(~whole)  # no hole opened or closed
    assert lines.sum() < 0.4 * whole.sum()
    assert not np.asarray(ndimage.binary_erosion(lines, EIGHT)).any()


def test_nothing_vanishes_whole():
    blank = np.zeros((3, 64, 64), bool)
    blank[0, 30:32, 30:32] = blank[1, 20, 20] = True
    assert thin(blank).any((1, 2)).tolist() == [True, True, False]


def test_a_pen_follows_the_lines():
    lines = thin(ink("T")[None])
    expected = _away(lines[0]) <= 2.6
    assert np.array_equal(widen(lines, 2.6)[0], expected)


def test_pairs_of_a_face_are_those_of_the_definition():
    """cmss10 is small enough to compare every pair by distances to lines and ink."""
    known = study("cmss10")
    whole = [ink(chr(code), "cmss10") for code in known.codes]
    lines = list(thin(np.stack(whole)))

    def away(one: np.ndarray, other: np.ndarray) -> float:
        far = [_away(to) > 3.2 for to in (other, one)]
        return max((one & far[0]).sum() / one.sum(), (other & far[1]).sum() / other.sum())

    near = {
        (a, b)
        for n, a in enumerate(known.codes)
        for m, b in enumerate(known.codes)
        if n < m and away(lines[n], lines[m]) <= 0.12 and away(whole[n], whole[m]) <= 0.08
    }
    assert near == known.near and known.same <= known.near
    assert (ord("O"), ord("o")) in near and (ord("C"), ord("G")) not in near
