import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.errors import SpecError
from kinsight.metrics import choose_thresholds, multilabel_metrics
from kinsight.metrics.label_thresholds import NEVER


def case(seed, images=200, labels=4, step=None, unknown=0.0):
    rng = np.random.default_rng(seed)
    target_NC = (rng.random((images, labels)) < 0.25).astype(np.int8)
    score_NC = 1 / (1 + np.exp(-rng.normal(size=(images, labels)) - 1.5 * target_NC))
    if step:
        score_NC = (score_NC / step).round() * step
    target_NC[rng.random((images, labels)) < unknown] = -1
    return score_NC.astype(np.float32), target_NC


def f1_at(score_N, target_N, limit):
    known_N = target_N >= 0
    predicted_N, positive_N = score_N[known_N] >= np.float32(limit), target_N[known_N] == 1
    return 2 * (predicted_N & positive_N).sum() / max(1, predicted_N.sum() + positive_N.sum())


def precision_recall_at(score_N, target_N, limit):
    known_N = target_N >= 0
    predicted_N, positive_N = score_N[known_N] >= np.float32(limit), target_N[known_N] == 1
    right = (predicted_N & positive_N).sum()
    return right / max(1, predicted_N.sum()), right / positive_N.sum()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 0.1, 0.5]), st.sampled_from([0.0, 0.5]))
def test_no_threshold_has_a_better_f1(seed, step, unknown):
    score_NC, target_NC = case(seed, step=step, unknown=unknown)
    found = choose_thresholds(score_NC, target_NC, least_positives=1)
    for c in range(4):
        best = max(f1_at(score_NC[:, c], target_NC[:, c], limit) for limit in np.unique(score_NC[:, c]))
        assert f1_at(score_NC[:, c], target_NC[:, c], float(found.threshold_C[c])) == pytest.approx(best)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 0.1]), st.sampled_from([0.3, 0.6, 0.9, 1.0]))
def test_the_wished_precision_at_the_largest_recall(seed, step, wished):
    score_NC, target_NC = case(seed, step=step)
    found = choose_thresholds(score_NC, target_NC, precision=wished, least_positives=1)
    for c in range(4):
        points = [precision_recall_at(score_NC[:, c], target_NC[:, c], limit) for limit in np.unique(score_NC[:, c])]
        reached = [recall for precision, recall in points if precision >= wished and recall > 0]
        assert (c in found.unreachable) == (not reached)
        if reached:
            precision, recall = precision_recall_at(score_NC[:, c], target_NC[:, c], float(found.threshold_C[c]))
            assert precision >= wished
            assert recall == pytest.approx(max(reached))
        else:
            assert found.threshold_C[c] == NEVER


def test_a_threshold_lies_between_what_it_parts():
    score_NC = torch.tensor([[0.9], [0.8], [0.4], [0.1]])
    found = choose_thresholds(score_NC, torch.tensor([[1], [1], [0], [0]]), least_positives=1)
    assert found.threshold_C.tolist() == pytest.approx([0.6])


def test_labels_with_few_positives_share_a_threshold():
    score_NC, target_NC = case(0)
    target_NC[:, 2], target_NC[:3, 2], target_NC[:, 3] = 0, 1, 0
    found = choose_thresholds(score_NC, target_NC)
    assert found.few == (2, 3)
    assert found.threshold_C[2] == found.threshold_C[3] == found.shared
    pooled = max(f1_at(score_NC.ravel(), target_NC.ravel(), limit) for limit in np.unique(score_NC))
    assert f1_at(score_NC.ravel(), target_NC.ravel(), found.shared) == pytest.approx(pooled)


def test_labels_of_which_nothing_is_known_keep_their_own():
    score_NC, target_NC = case(0)
    target_NC[:, 1], target_NC[:, 3] = -1, 0
    own_C = torch.linspace(0.1, 0.2, target_NC.shape[1], dtype=torch.float64)
    found, without = choose_thresholds(score_NC, target_NC, own_C=own_C), choose_thresholds(score_NC, target_NC)
    assert (found.kept, found.few) == ((1,), (3,)) and (without.kept, without.few) == ((), (1, 3))
    assert found.threshold_C[1] == own_C[1] and found.threshold_C[3] == found.shared == without.threshold_C[1]
    assert torch.equal(found.threshold_C[[0, 2]], without.threshold_C[[0, 2]])


def test_nothing_positive_predicts_nothing():
    found = choose_thresholds(torch.rand(5, 2), torch.zeros(5, 2))
    assert found.threshold_C.tolist() == [NEVER, NEVER]
    assert found.unreachable == (0, 1)


def test_chosen_thresholds_are_better_than_a_half():
    score_NC, target_NC = case(1, images=2000)
    halves = multilabel_metrics(score_NC, target_NC).means
    chosen = multilabel_metrics(score_NC, target_NC, choose_thresholds(score_NC, target_NC).threshold_C).means
    assert chosen["macro_f1"] > halves["macro_f1"] + 0.02


def test_scores_next_to_each_other_stay_apart():
    score = np.float32(0.3)
    score_NC = np.array([[np.nextafter(score, np.float32(1))], [score]], np.float32)
    found = choose_thresholds(score_NC, np.array([[1], [0]]), least_positives=1)
    assert multilabel_metrics(score_NC, np.array([[1], [0]]), found.threshold_C).means["exact_match"] == 1.0


@pytest.mark.parametrize("wished", [0.0, 1.1, -1.0])
def test_a_precision_that_is_none(wished):
    with pytest.raises(SpecError, match="precision"):
        choose_thresholds(torch.rand(5, 2), torch.ones(5, 2), precision=wished)


@pytest.mark.parametrize("wished", [None, 0.6])
def test_blocks_change_nothing(wished, monkeypatch):
    score_NC, target_NC = case(4, step=0.05, unknown=0.2)
    whole = choose_thresholds(score_NC, target_NC, precision=wished)
    monkeypatch.setattr("kinsight.metrics.blocks.CELLS", 50)
    monkeypatch.setattr("kinsight.metrics.labels.CELLS", 450)
    parts = choose_thresholds(score_NC, target_NC, precision=wished)
    assert parts.threshold_C.tolist() == whole.threshold_C.tolist() and parts.shared == whole.shared
