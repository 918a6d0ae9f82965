import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.errors import DataError, SpecError
from kinsight.metrics import classification_metrics


def case(seed, images=200, classes=7, step=None, missing=()):
    rng = np.random.default_rng(seed)
    score_NC = rng.normal(size=(images, classes))
    if step:
        score_NC = (score_NC / step).round() * step
    label_N = rng.choice([c for c in range(classes) if c not in missing], images)
    return score_NC, label_N


@pytest.mark.parametrize("step", [None, 0.5, 10.0], ids=["distinct", "ties", "all equal"])
@pytest.mark.parametrize("missing", [(), (0, 3)])
def test_equals_scikit_learn(step, missing):
    sk = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        score_NC, label_N = case(seed, step=step, missing=missing)
        found = classification_metrics(score_NC, label_N, ks=(1, 2, 5, 7, 50))
        predicted_N = score_NC.argmax(1)
        assert found.predicted_N.tolist() == predicted_N.tolist()
        assert found.means["accuracy"] == pytest.approx(sk.accuracy_score(label_N, predicted_N))
        assert found.means["top1_accuracy"] == found.means["accuracy"]
        present = sorted(set(label_N.tolist()))
        recall = sk.recall_score(label_N, predicted_N, labels=present, average="macro", zero_division=0)
        assert found.means["macro_recall"] == pytest.approx(recall)
        precision = sk.precision_score(label_N, predicted_N, average="macro", zero_division=0)
        assert found.means["macro_precision"] == pytest.approx(precision)
        confusion = sk.confusion_matrix(label_N, predicted_N, labels=range(7))
        assert found.confusion_CC.tolist() == confusion.tolist()
        for k in (2, 5):
            # It takes the higher class first among equal scores, we the lower: the same once the classes are reversed.
            theirs = sk.top_k_accuracy_score(6 - label_N, score_NC[:, ::-1], k=k, labels=range(7))
            assert found.means[f"top{k}_accuracy"] == pytest.approx(theirs)
        assert found.means["top7_accuracy"] == found.means["top50_accuracy"] == 1.0


@pytest.mark.parametrize("missing", [(), (0, 3)])
def test_equals_torchmetrics(missing):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    for seed in range(5):
        score_NC, label_N = map(torch.from_numpy, case(seed, missing=missing))
        found = classification_metrics(score_NC, label_N, ks=(3,))
        accuracy = functional.multiclass_accuracy(score_NC, label_N, 7, average="micro")
        assert found.means["accuracy"] == pytest.approx(float(accuracy))
        top3 = functional.multiclass_accuracy(score_NC, label_N, 7, average="micro", top_k=3)
        assert found.means["top3_accuracy"] == pytest.approx(float(top3))
        precision = functional.multiclass_precision(score_NC, label_N, 7, average="macro")
        assert found.means["macro_precision"] == pytest.approx(float(precision))
        each = functional.multiclass_recall(score_NC, label_N, 7, average="none")
        there_C = torch.bincount(label_N, minlength=7) > 0
        assert found.per_class["recall"][there_C].tolist() == pytest.approx(each[there_C].tolist())
        assert found.per_class["recall"][~there_C].isnan().all()
        f1 = functional.multiclass_f1_score(score_NC, label_N, 7, average="none")
        assert found.per_class["f1"].nan_to_num().tolist() == pytest.approx(f1.tolist())
        confusion = functional.multiclass_confusion_matrix(score_NC, label_N, 7)
        assert torch.equal(found.confusion_CC, confusion)


def test_ties_go_to_the_lower_class():
    score_NC = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1.0, 1.0, 1.0]])
    found = classification_metrics(score_NC, torch.tensor([0, 1, 2]), ks=(2,))
    assert found.rank_N.tolist() == [1, 2, 3]
    assert found.means["accuracy"] == pytest.approx(1 / 3)
    assert found.means["top2_accuracy"] == pytest.approx(2 / 3)


def test_the_most_confused_classes_come_first():
    predicted = [0, 1, 1, 2, 2, 2, 0]
    label_N = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    found = classification_metrics(torch.eye(3)[predicted], label_N)
    assert [tuple(one) for one in found.confusions(10)] == [(0, 1, 2), (1, 2, 2), (0, 2, 1), (2, 0, 1)]
    assert found.confusions(1)[0].images == 2


def test_one_class_and_one_image():
    found = classification_metrics(torch.zeros(1, 1), torch.tensor([0]))
    assert found.means == {"accuracy": 1.0, "top5_accuracy": 1.0, "macro_recall": 1.0, "macro_precision": 1.0}
    assert found.confusions(3) == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 9), st.booleans())
def test_order_of_images_and_monotone_scores_change_nothing(seed, images, classes, ties):
    score_NC, label_N = map(torch.from_numpy, case(seed, images, classes, step=0.7 if ties else None))
    found = classification_metrics(score_NC, label_N, ks=(1, 2, 3))
    order_N = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    other = classification_metrics(score_NC[order_N].exp(), label_N[order_N], ks=(1, 2, 3))
    assert other.means == pytest.approx(found.means)
    assert found.means["top1_accuracy"] <= found.means["top2_accuracy"] <= found.means["top3_accuracy"]


@pytest.mark.parametrize(
    ("score_NC", "label_N", "ks", "kind", "words"),
    [
        (torch.zeros(0, 3), torch.zeros(0).long(), (5,), DataError, "no image"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), torch.tensor([0, 1]), (5,), DataError, "row 1"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), (5,), DataError, "row 1 is 2"),
        (torch.zeros(2, 2), torch.tensor([0, -1]), (5,), DataError, "row 1 is -1"),
        (torch.zeros(2, 2), torch.tensor([0]), (5,), SpecError, "expected"),
        (torch.zeros(2, 2), torch.tensor([0, 1]), (0,), SpecError, "at least 1"),
    ],
)
def test_bad_input_is_named(score_NC, label_N, ks, kind, words):
    with pytest.raises(kind, match=words):
        classification_metrics(score_NC, label_N, ks)
