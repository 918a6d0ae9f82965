"""What is said of a partition beside the k-means it began with."""

import numpy as np
import pytest

from kinsight.partition.measure import Curve
from kinsight.partition.verdict import _plain, warn_if_in_vain


def told(scanned: list[float], recall: list[float]) -> dict:
    found = Curve(np.arange(1, 1 + len(recall)), np.array(scanned), np.array(scanned), np.array(recall))
    return _plain({10: found}, 1000, 1.0)


@pytest.mark.parametrize(
    ("learned", "k_means", "said"),
    [
        (([50, 90], [0.97, 0.99]), ([60, 100], [0.9, 0.98]), None),
        (([50, 90], [0.97, 0.99]), ([60, 100], [0.96, 0.98]), None),
        (([70, 90], [0.97, 0.99]), ([60, 100], [0.96, 0.98]), "k-means scans 6 % of all, what was learned scans 7 %"),
        (([50, 90], [0.8, 0.9]), ([60, 100], [0.9, 1.0]), "what was learned does not reach it"),
        (([50, 90], [0.8, 0.9]), ([60, 100], [0.8, 0.9]), None),
    ],
    ids=["first-list", "both-first", "dearer", "never", "neither"],
)
def test_learned_in_vain(
    learned: tuple[list[float], list[float]],
    k_means: tuple[list[float], list[float]],
    said: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn_if_in_vain({"learned": told(*learned), "k-means": told(*k_means)})
    err = capsys.readouterr().err
    assert err == "" if said is None else said in err
