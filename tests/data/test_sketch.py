"""Whether two sets of images share some."""

import pytest

from kinsight.data.sketch import SKETCH_SIZE, share_in, sketch


def _uris(start: int, stop: int) -> list[str]:
    return [f"/images/{number}.jpg" for number in range(start, stop)]


def test_small_sets_are_known_exactly() -> None:
    known = sketch(_uris(0, 500))
    assert share_in(known, _uris(1, 500)) == 1
    assert share_in(known, _uris(400, 600)) == 0.5
    assert share_in(known, _uris(500, 900)) == 0
    assert share_in(known, []) == 0 and share_in((), _uris(0, 3)) == 0


@pytest.mark.parametrize(("first", "share"), [(0, 1.0), (15_000, 0.5), (20_000, 0.0)])
def test_large_sets_are_estimated(first: int, share: float) -> None:
    known = sketch(_uris(0, 20_000))
    assert len(known) == SKETCH_SIZE
    assert share_in(known, _uris(first, first + 10_000)) == pytest.approx(share, abs=0.06)


def test_order_and_repetition_do_not_matter() -> None:
    assert sketch(_uris(0, 3000)) == sketch([*reversed(_uris(0, 3000)), *_uris(5, 9)])
