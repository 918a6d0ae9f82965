"""Which similarity searches accept from: converted where that is exact, none where none would be honest."""

import pytest
import torch

from kinsight.errors import SpecError
from kinsight.models import ThresholdPoint, Thresholds, load_header, write_thresholds
from kinsight.neighbors import pair_similarity
from kinsight.serving.limits import find_limit


@pytest.fixture
def bundle(made):
    before = load_header(made / "run").thresholds
    assert before is not None

    def write(metric, **rates):
        points = tuple(
            ThresholdPoint(fmr=float(fmr), threshold=t, fmr_low=0, fmr_high=1, tmr=1, tmr_low=0, tmr_high=1)
            for fmr, t in rates.items()
        )
        write_thresholds(made / "run", before.model_copy(update={"metric": metric, "points": points}))
        return str(made / "run")

    yield write
    write_thresholds(made / "run", before)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_cosines_are_converted_for_vectors_of_unit_length(bundle, metric):
    limit = find_limit(bundle("cosine", **{"1e-2": 0.3}), None, None, metric, True)
    # two vectors at that very angle
    emb_2D = torch.tensor([[1.0, 0.0], [0.3, (1 - 0.3**2) ** 0.5]])
    similarity_1 = pair_similarity(emb_2D, torch.tensor([[0, 1]]), metric=metric)
    assert limit.threshold == pytest.approx(float(similarity_1[0]), abs=1e-6)
    assert (limit.fmr, limit.source) == (0.01, "bundle")


@pytest.mark.parametrize(
    ("measured", "metric", "normalized", "why"),
    [
        ("cosine", "l2", False, "are not of unit length"),
        ("cosine", "ip", None, "may have any length"),
        ("l2", "cosine", True, "are for l2"),
        ("l2", "l2", True, "as the model gives them, the index's have unit length"),
    ],
)
def test_where_no_conversion_is_right_the_reason_is_said(bundle, measured, metric, normalized, why):
    place = bundle(measured, **{"1e-2": 0.3})
    limit = find_limit(place, None, None, metric, normalized)
    assert limit.threshold is None and why in limit.source
    with pytest.raises(SpecError, match=why):
        find_limit(place, 0.01, None, metric, normalized)
    assert find_limit(place, None, 0.7, metric, normalized).threshold == 0.7


def test_the_same_metric_needs_no_conversion(bundle):
    assert find_limit(bundle("cosine", **{"1e-2": 0.3}), None, None, "cosine", None).threshold == 0.3
    assert find_limit(bundle("l2", **{"1e-2": -0.3}), None, None, "l2", False).threshold == -0.3


def test_a_loose_rate_is_taken_only_when_asked_for(bundle):
    place = bundle("cosine", **{"1e-1": 0.3})
    limit = find_limit(place, None, None, "cosine", True)
    assert limit.threshold is None and "0.1, too loose" in limit.source
    assert find_limit(place, 0.1, None, "cosine", True).threshold == 0.3
    assert Thresholds.default(Thresholds.model_validate(load_header(place).thresholds)) is None
