import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.errors import DataError, SpecError
from kinsight.metrics import multilabel_metrics, threshold_metrics


def case(seed, images=120, labels=6, step=None, empty=(), full=(), unknown=0.0):
    rng = np.random.default_rng(seed)
    score_NC = rng.random((images, labels))
    if step:
        score_NC = (score_NC / step).round() * step
    target_NC = (rng.random((images, labels)) < 0.3).astype(np.int8)
    target_NC[:, list(empty)], target_NC[:, list(full)] = 0, 1
    target_NC[rng.random((images, labels)) < unknown] = -1
    return score_NC, target_NC


STEPS = pytest.mark.parametrize("step", [None, 0.25, 2.0], ids=["distinct", "ties", "all equal"])
SHAPES = pytest.mark.parametrize(
    "shape", [{}, {"empty": (1, 4)}, {"full": (2,)}, {"empty": (0,), "full": (5,)}, {"labels": 2}]
)


@STEPS
@SHAPES
def test_equals_scikit_learn(step, shape):
    sk = pytest.importorskip("sklearn.metrics")
    for seed in range(4):
        score_NC, target_NC = case(seed, step=step, **shape)
        there = [c for c in range(target_NC.shape[1]) if target_NC[:, c].any()]
        found = multilabel_metrics(score_NC, target_NC, 0.6)
        kept_NC, kept_target_NC = score_NC[:, there], target_NC[:, there]

        def ap(average, score=kept_NC, target=kept_target_NC):
            return sk.average_precision_score(target, score, average=average)

        assert found.means["map"] == pytest.approx(ap("macro"))
        assert found.means["weighted_map"] == pytest.approx(ap("weighted"))
        assert found.means["micro_map"] == pytest.approx(ap("micro", score_NC.ravel(), target_NC.ravel()))
        assert found.per_label["ap"][there].tolist() == pytest.approx(np.atleast_1d(ap(None)).tolist())
        predicted_NC = (score_NC >= 0.6).astype(int)
        scored = {"p": sk.precision_score, "r": sk.recall_score}
        for name, score in scored.items():
            macro = score(kept_target_NC, predicted_NC[:, there], average="macro", zero_division=0)
            micro = score(target_NC.ravel(), predicted_NC.ravel(), average="binary", zero_division=0)
            assert found.means[f"c{name}"] == pytest.approx(macro)
            assert found.means["op" if name == "p" else "or"] == pytest.approx(micro)
        of1 = sk.f1_score(target_NC.ravel(), predicted_NC.ravel(), average="binary", zero_division=0)
        assert found.means["of1"] == pytest.approx(of1)
        macro_f1 = sk.f1_score(kept_target_NC, predicted_NC[:, there], average="macro", zero_division=0)
        assert found.means["macro_f1"] == pytest.approx(macro_f1)
        cp, cr = found.means["cp"], found.means["cr"]
        assert found.means["cf1"] == pytest.approx(2 * cp * cr / (cp + cr) if cp + cr else 0.0)
        assert found.means["exact_match"] == pytest.approx((predicted_NC == target_NC).all(1).mean())
        assert found.means["coverage_error"] == pytest.approx(sk.coverage_error(target_NC, score_NC))


@STEPS
def test_equals_torchmetrics(step):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    for seed in range(4):
        score_NC, target_NC = map(torch.from_numpy, case(seed, step=step))
        score_NC, number = score_NC.float().clamp(max=1.0), target_NC.shape[1]
        found = multilabel_metrics(score_NC, target_NC, 0.6)
        for name, average in (("map", "macro"), ("micro_map", "micro"), ("weighted_map", "weighted")):
            theirs = functional.multilabel_average_precision(score_NC, target_NC.long(), number, average=average)
            assert found.means[name] == pytest.approx(float(theirs), abs=1e-5)
        binary_NC = (score_NC >= 0.6).int()
        for name in ("precision", "recall", "f1_score"):
            theirs = getattr(functional, f"multilabel_{name}")(binary_NC, target_NC, number, average="none")
            assert found.per_label[name.removesuffix("_score")].tolist() == pytest.approx(theirs.tolist())
        exact = functional.multilabel_exact_match(binary_NC, target_NC, number)
        assert found.means["exact_match"] == pytest.approx(float(exact))
        coverage = functional.multilabel_coverage_error(score_NC, target_NC, number)
        # Equal scores are one step for us and scikit-learn; it moves them apart by its own noise.
        if step is None:
            assert found.means["coverage_error"] == pytest.approx(float(coverage))


def test_labels_without_positives_are_left_out_of_map_and_counted():
    sk = pytest.importorskip("sklearn.metrics")
    score_NC, target_NC = case(0, empty=(1,))
    found = multilabel_metrics(score_NC, target_NC)
    assert found.num_labels == 5
    assert found.per_label["ap"][1].isnan()
    assert found.per_label["recall"][1].isnan()
    assert found.per_label["precision"][1] == 0.0  # it was predicted, and never right
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sk.average_precision_score(target_NC, score_NC)  # counts such a label as 0
    assert found.means["map"] == pytest.approx(theirs * 6 / 5)


@pytest.mark.parametrize("step", [None, 0.25])
def test_unknown_entries_count_nowhere(step):
    """As if each label had been measured on the images that it is known of."""
    sk = pytest.importorskip("sklearn.metrics")
    score_NC, target_NC = case(3, step=step, unknown=0.4)
    found = multilabel_metrics(score_NC, target_NC, 0.5)
    known_NC = target_NC >= 0
    aps = []
    for c in range(6):
        kept = known_NC[:, c]
        aps.append(sk.average_precision_score(target_NC[kept, c], score_NC[kept, c]))
        ours = [float(found.per_label[name][c]) for name in ("precision", "recall", "f1")]
        theirs = sk.precision_recall_fscore_support(target_NC[kept, c], score_NC[kept, c] >= 0.5, average="binary")
        assert ours == pytest.approx(list(theirs[:3]))
    assert found.per_label["ap"].tolist() == pytest.approx(aps)
    micro = sk.average_precision_score(target_NC[known_NC], score_NC[known_NC])
    assert found.means["micro_map"] == pytest.approx(micro)
    assert found.known_C.tolist() == known_NC.sum(0).tolist()
    shifted_NC = np.where(known_NC, score_NC, 1 - score_NC)  # whatever is said of what nobody knows
    assert multilabel_metrics(shifted_NC, target_NC, 0.5).means == pytest.approx(found.means)


def test_an_image_of_which_nothing_is_known_counts_nowhere():
    score_NC, target_NC = case(5)
    more_NC, more_target_NC = np.vstack([score_NC, score_NC[:9]]), np.vstack([target_NC, -np.ones((9, 6), np.int8)])
    assert multilabel_metrics(more_NC, more_target_NC).means == multilabel_metrics(score_NC, target_NC).means


def test_a_case_worked_by_hand():
    score_NC = torch.tensor([[0.9, 0.1], [0.8, 0.8], [0.2, 0.4], [0.6, 0.4]])
    target_NC = torch.tensor([[1, 0], [0, 1], [0, 1], [1, -1]])
    found = multilabel_metrics(score_NC, target_NC, torch.tensor([0.5, 0.5]))
    # label 0, by score: 1 0 1 0 -> (1 + 2/3) / 2; label 1: 1 1 0
    assert found.per_label["ap"].tolist() == pytest.approx([5 / 6, 1.0])
    assert found.per_label["precision"].tolist() == pytest.approx([2 / 3, 1.0])
    assert found.per_label["recall"].tolist() == pytest.approx([1.0, 0.5])
    assert found.means["op"] == pytest.approx(3 / 4)
    assert found.means["or"] == pytest.approx(3 / 4)
    assert found.means["exact_match"] == pytest.approx(2 / 4)  # the first image and, as far as it is known, the last
    assert found.means["coverage_error"] == pytest.approx((1 + 2 + 1 + 1) / 4)


def test_nothing_positive_leaves_only_what_can_be_said():
    found = multilabel_metrics(torch.rand(4, 3), torch.zeros(4, 3))
    assert np.isnan([found.means[name] for name in ("map", "micro_map", "weighted_map", "cp", "cr", "cf1", "or")]).all()
    assert found.means["coverage_error"] == 0.0
    assert multilabel_metrics(torch.zeros(4, 3), torch.zeros(4, 3)).means["exact_match"] == 1.0


def slopes(found):
    assert found.map_slope_N is not None
    return found.map_slope_N


def test_blocks_change_nothing(monkeypatch):
    score_NC, target_NC = case(7, images=200, step=0.1, unknown=0.2)
    whole = multilabel_metrics(score_NC, target_NC, 0.4)
    monkeypatch.setattr("kinsight.metrics.blocks.CELLS", 50)
    monkeypatch.setattr("kinsight.metrics.labels.CELLS", 450)
    parts = multilabel_metrics(score_NC, target_NC, 0.4)
    assert parts.means == pytest.approx(whole.means)
    assert torch.equal(parts.wrong_N, whole.wrong_N) and torch.allclose(slopes(parts), slopes(whole))


def test_thresholds_alone_and_without_the_slowest():
    score_NC, target_NC = case(8, unknown=0.1)
    whole = multilabel_metrics(score_NC, target_NC, 0.6).means
    ranked = {"map", "micro_map", "weighted_map", "coverage_error"}
    assert threshold_metrics(score_NC, target_NC, 0.6).means == {n: v for n, v in whole.items() if n not in ranked}
    assert multilabel_metrics(score_NC, target_NC, 0.6, micro=False).means == {
        n: v for n, v in whole.items() if n != "micro_map"
    }


@pytest.mark.parametrize("step", [None, 0.2])
def test_the_slope_of_map_is_its_derivative_in_the_weight_of_an_image(step):
    """An image that is there k times weighs k times as much."""
    score_NC, target_NC = case(9, images=60, step=step, unknown=0.2, empty=(2,))
    found = multilabel_metrics(score_NC, target_NC)
    assert float(slopes(found).sum()) == pytest.approx(0, abs=1e-12)
    often = 200
    for image in (0, 7, 31, 59):
        times_N = np.full(60, often)
        times_N[image] += 1
        rows = np.repeat(np.arange(60), times_N)
        grown = multilabel_metrics(score_NC[rows], target_NC[rows]).means["map"] - found.means["map"]
        assert grown * often == pytest.approx(float(slopes(found)[image]), rel=0.02, abs=1e-5)


def test_slopes_tell_how_far_map_strays():
    """As far as that of images drawn with replacement."""
    rng = np.random.default_rng(0)
    score_NC, target_NC = case(10, images=400, labels=5)
    score_NC = score_NC + 0.8 * target_NC
    found = multilabel_metrics(score_NC, target_NC)
    drawn = [multilabel_metrics(score_NC[rows], target_NC[rows], micro=False).means["map"]
             for rows in rng.integers(0, 400, (300, 400))]  # fmt: skip
    assert float(slopes(found).square().sum().sqrt()) == pytest.approx(np.std(drawn), rel=0.12)


def test_a_threshold_is_met_in_the_precision_of_the_scores():
    score_NC = torch.tensor([[0.7], [0.1]])
    assert (
        multilabel_metrics(score_NC, torch.tensor([[1], [0]]), torch.tensor([0.7], dtype=torch.float64)).means[
            "exact_match"
        ]
        == 1.0
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 5), st.booleans(), st.floats(0, 0.8))
def test_ranking_metrics_depend_on_order_alone(seed, images, labels, ties, unknown):
    score_NC, target_NC = case(seed, images, labels, step=0.3 if ties else None, unknown=unknown)
    if (target_NC < 0).all():
        return
    found = multilabel_metrics(score_NC, target_NC)
    order_N = np.random.default_rng(seed).permutation(images)
    other = multilabel_metrics(np.exp(score_NC[order_N]), target_NC[order_N], np.full(labels, np.exp(0.5)))
    assert other.means == pytest.approx(found.means, nan_ok=True)


@pytest.mark.parametrize(
    ("score_NC", "target_NC", "threshold", "kind", "words"),
    [
        (torch.zeros(0, 3), torch.zeros(0, 3), None, DataError, "no image"),
        (torch.zeros(2, 3), -torch.ones(2, 3), None, DataError, "no label of any image is known"),
        (torch.full((2, 3), torch.nan), torch.zeros(2, 3), None, DataError, "row 0"),
        (torch.zeros(2, 3), torch.full((2, 3), 2), None, SpecError, "1, 0, or -1"),
        (torch.zeros(2, 3), torch.full((2, 3), torch.nan), None, SpecError, "1, 0, or -1"),
        (torch.zeros(2, 3), torch.zeros(3, 2), None, SpecError, "expected"),
        (torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2), SpecError, "2 thresholds for 3"),
    ],
)
def test_bad_input_is_named(score_NC, target_NC, threshold, kind, words):
    with pytest.raises(kind, match=words):
        multilabel_metrics(score_NC, target_NC, threshold)
