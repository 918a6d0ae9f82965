"""The picture of recall against vectors scanned: its scale follows the recalls that are there."""

import numpy as np
import pytest
from matplotlib.image import imread

from kinsight.partition.plots import Series, _heights, pareto


@pytest.mark.parametrize(
    ("low", "high", "least_top", "most_top", "among"),
    [
        (0.01, 0.43, 0.435, 0.5, [0.1, 0.2, 0.3, 0.4]),
        (0.01, 0.04, 0.0405, 0.05, [0.0]),
        (0.5, 1.0, 0.999, 0.9993, [0.5, 0.9, 0.99, 0.999]),
        (0.01, 1.0, 0.999, 0.9993, [0.0, 0.5, 0.9, 0.99, 0.999]),
        (0.0, 0.0, 0.0001, 0.01, [0.0]),
    ],
)
def test_the_scale_ends_a_little_above_the_highest(low, high, least_top, most_top, among) -> None:
    bottom, top, ticks = _heights(low, high)
    assert 0 <= bottom <= low and least_top <= top <= most_top
    assert set(np.round(among, 4)) <= set(np.round(ticks, 4)) and all(bottom <= each <= top for each in ticks)
    assert len(ticks) <= 14


def test_low_recalls_fill_the_picture(tmp_path) -> None:
    line = Series("learned", [0.001, 0.01, 0.1], [0.01, 0.17, 0.43])
    pareto([("recall", [line])], tmp_path / "low.png", title="low")
    picture = imread(str(tmp_path / "low.png"))
    blue = (picture[..., 2] > 0.7) & (picture[..., 0] < 0.3)
    row_M = np.flatnonzero(blue[: int(0.85 * len(picture))].any(1))  # below is the legend
    assert np.ptp(row_M) > 0.6 * len(picture)
