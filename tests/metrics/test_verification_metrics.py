import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight import metrics
from kinsight.errors import DataError


def scores(seed=0, same=300, different=900, step=None):
    generator = torch.Generator().manual_seed(seed)
    same_P = torch.randn(same, generator=generator) + 1
    different_P = torch.randn(different, generator=generator) - 0.5
    if step:
        same_P, different_P = (same_P / step).round() * step, (different_P / step).round() * step
    return same_P, different_P


@pytest.mark.parametrize("step", [None, 0.5])
def test_roc_and_auc_equal_scikit_learn(step):
    sklearn = pytest.importorskip("sklearn.metrics")
    same_P, different_P = scores(step=step)
    truth = torch.cat([torch.ones(300), torch.zeros(900)]).numpy()
    value = torch.cat([same_P, different_P]).double().numpy()
    fpr, tpr, threshold = sklearn.roc_curve(truth, value, drop_intermediate=False)
    curve = metrics.roc(same_P, different_P)
    assert curve.fpr_T.tolist() == pytest.approx(fpr.tolist())
    assert curve.tpr_T.tolist() == pytest.approx(tpr.tolist())
    assert curve.threshold_T.tolist() == pytest.approx(threshold.tolist())
    assert metrics.auc(curve) == pytest.approx(sklearn.roc_auc_score(truth, value))


def test_a_case_worked_by_hand():
    # same 0.9 0.7 0.4; different 0.8 0.3 0.2 0.1
    same_P, different_P = torch.tensor([0.9, 0.7, 0.4]), torch.tensor([0.8, 0.3, 0.2, 0.1])
    curve = metrics.roc(same_P, different_P)
    # of 12 same-different comparisons 0.7 and 0.4 lose to 0.8
    assert metrics.auc(curve) == pytest.approx(10 / 12)
    point = metrics.tpr_at_fpr(curve, 0.25)
    assert point.tpr == 1.0
    assert point.fnmr == 0.0
    assert point.threshold == pytest.approx(0.4)
    threshold, accuracy = metrics.best_threshold(same_P, different_P)
    assert accuracy == pytest.approx(6 / 7)
    assert threshold == pytest.approx(0.35)
    # FNMR 1/3 until 0.7 is in, then FPR 1/4: they cross on the step at FPR 1/4
    assert metrics.eer(curve) == pytest.approx(0.25)


def test_a_rate_finer_than_the_pairs_is_none_with_a_reason():
    curve = metrics.roc(*scores())
    point = metrics.tpr_at_fpr(curve, 1e-3)
    assert point.tpr is None
    assert point.fnmr is None
    assert "900 different pairs" in (point.reason or "")
    assert metrics.tpr_at_fpr(curve, 1 / 900).tpr is not None
    result = metrics.verification_metrics(*scores())
    assert result.means["tpr@fpr=1e-3"] is None
    assert result.means["fnmr@fmr=1e-3"] is None
    assert "tpr@fpr=1e-3" in result.reasons
    assert result.means["tpr@fpr=1e-2"] is not None


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**20), fpr=st.sampled_from([0.1, 0.02, 0.01, 0.3]), step=st.sampled_from([None, 0.5, 3.0]))
def test_operating_points_equal_a_count(seed, fpr, step):
    same_P, different_P = scores(seed, 50, 120, step)
    point = metrics.tpr_at_fpr(metrics.roc(same_P, different_P), fpr)
    best = 0.0
    for threshold in torch.cat([same_P, different_P]).tolist():
        if (different_P >= threshold).double().mean() <= fpr + 1e-12:
            best = max(best, float((same_P >= threshold).double().mean()))
    if point.tpr is None:
        assert fpr * 120 < 1
    else:
        assert point.tpr == pytest.approx(best)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**20), step=st.sampled_from([None, 0.5]))
def test_best_threshold_beats_every_other(seed, step):
    same_P, different_P = scores(seed, 30, 40, step)
    threshold, accuracy = metrics.best_threshold(same_P, different_P)
    counted = (same_P.double() >= threshold).sum() + (different_P.double() < threshold).sum()
    assert accuracy == pytest.approx(float(counted) / 70)
    for other in torch.cat([same_P, different_P]).tolist():
        assert accuracy >= float((same_P >= other).sum() + (different_P < other).sum()) / 70 - 1e-12


def test_fold_accuracy_equals_a_loop_over_given_folds():
    same_P, different_P = scores(same=100, different=100)
    value_P = torch.cat([same_P, different_P]).double()
    is_same_P = torch.arange(200) < 100
    fold_P = torch.arange(200) % 10
    result = metrics.fold_accuracy(value_P, is_same_P, fold_P=fold_P)
    expected = []
    for fold in range(10):
        rest, test = fold_P != fold, fold_P == fold
        limit, _ = metrics.best_threshold(value_P[rest & is_same_P], value_P[rest & ~is_same_P])
        expected.append(float(((value_P[test] >= limit) == is_same_P[test]).double().mean()))
    assert list(result.accuracy) == pytest.approx(expected)
    assert result.mean == pytest.approx(sum(expected) / 10)
    assert len(result.threshold) == 10
    assert result.std > 0


def test_folds_dealt_by_seed_are_even_and_repeatable():
    same_P, different_P = scores(same=50, different=130)
    one = metrics.verification_metrics(same_P, different_P, seed=3).means["accuracy@10fold"]
    assert one == metrics.verification_metrics(same_P, different_P, seed=3).means["accuracy@10fold"]
    assert 0.6 < (one or 0) < 1


def test_too_few_pairs_for_folds_is_none_with_a_reason():
    result = metrics.verification_metrics(torch.rand(4), torch.rand(50))
    assert result.means["accuracy@10fold"] is None
    assert "10 pairs" in result.reasons["accuracy@10fold"]


def test_perfect_and_hopeless_separation():
    perfect = metrics.verification_metrics(torch.full((20,), 0.9), torch.full((20,), 0.1), fprs=[0.1])
    assert perfect.means["auc"] == 1.0
    assert perfect.means["eer"] == 0.0
    assert perfect.means["best_accuracy"] == 1.0
    tied = metrics.verification_metrics(torch.zeros(20), torch.zeros(20), fprs=[0.1])
    assert tied.means["auc"] == 0.5
    assert tied.means["eer"] == 0.5
    assert tied.means["tpr@fpr=1e-1"] == 0.0
    assert "tied" in tied.reasons["tpr@fpr=1e-1"]


@pytest.mark.parametrize("bad", [torch.empty(0), torch.tensor([0.1, math.nan])])
def test_empty_or_nan_pairs_are_refused(bad):
    with pytest.raises(DataError, match="pairs"):
        metrics.roc(bad, torch.rand(4))
