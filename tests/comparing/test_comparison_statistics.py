"""Student's t, intervals, the corrected test and Holm's correction against scipy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from kinsight.comparing.statistics import corrected_test, holm, mean_interval
from kinsight.comparing.student import quantile, two_sided_p


@pytest.mark.parametrize("df", [1, 2, 3, 5, 11, 29, 200, 10_000])
def test_student(df: int) -> None:
    for t in (0.0, 1e-9, 0.3, 1.0, 2.5, 4.303, 12.7, 80.0, 1e6):
        assert two_sided_p(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-9, abs=1e-300)
        assert two_sided_p(-t, df) == two_sided_p(t, df)
    for coverage in (0.5, 0.9, 0.95, 0.999):
        assert quantile(coverage, df) == pytest.approx(stats.t.ppf((1 + coverage) / 2, df), rel=1e-9)
    assert two_sided_p(math.inf, df) == 0.0


def test_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(0.6, 0.05, 7).tolist()
    found = mean_interval(values, alpha=0.05)
    low, high = stats.t.interval(0.95, 6, np.mean(values), stats.sem(values))
    assert found is not None and (found.mean, found.runs) == (pytest.approx(np.mean(values)), 7)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    single = mean_interval([0.5], alpha=0.05)
    assert single is not None and single.low is None and single.high is None
    assert mean_interval([], alpha=0.05) is None


def test_corrected_test_by_hand() -> None:
    # Differences 0.01, 0.03, 0.02 on 3 folds: mean 0.02, variance 1e-4; 1e-4 (1/3 + 1/2) = 8.33e-5.
    found = corrected_test([0.01, 0.03, 0.02], folds=3, alpha=0.05)
    assert found is not None
    t = 0.02 / math.sqrt(1e-4 * 5 / 6)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 2))
    assert found.high - found.difference == pytest.approx(4.302652729696142 * math.sqrt(1e-4 * 5 / 6))
    # The plain paired test would call it significant; shared training images say it is not.
    assert stats.ttest_1samp([0.01, 0.03, 0.02], 0).pvalue < 0.08 < found.p
    assert corrected_test([0.1], folds=3, alpha=0.05) is None
    equal, apart = corrected_test([0.0, 0.0], folds=2, alpha=0.05), corrected_test([0.5, 0.5], folds=2, alpha=0.05)
    assert equal is not None and equal.p == 1.0
    assert apart is not None and apart.p == 0.0


def test_corrected_test_keeps_its_level() -> None:
    """Runs that correlate by 1/folds, as Nadeau and Bengio assume: 5 % false findings, the plain test many more."""
    rng = np.random.default_rng(1)
    folds, seeds, trials = 4, 3, 4000
    corrected = plain = 0
    for _ in range(trials):
        difference = math.sqrt(1 / folds) * rng.normal() + math.sqrt(1 - 1 / folds) * rng.normal(size=folds * seeds)
        found = corrected_test(difference.tolist(), folds=folds, alpha=0.05)
        assert found is not None
        corrected += found.p < 0.05
        plain += stats.ttest_1samp(difference, 0).pvalue < 0.05
    assert 0.04 < corrected / trials < 0.06 and plain / trials > 0.2


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {
        "a": pytest.approx(0.03), "c": pytest.approx(0.06), "b": pytest.approx(0.06)
    }  # fmt: skip
    assert holm({"a": 0.9, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
