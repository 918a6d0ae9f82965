import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kinsight.errors import DataError, SpecError
from kinsight.metrics import fit_temperature, probabilities, reliability
from kinsight.metrics.calibration import BOUNDS


def classes_case(seed, temperature=3.0, images=4000, classes=5):
    """Labels drawn from softmax(z); the model says temperature * z."""
    generator = torch.Generator().manual_seed(seed)
    logit_NC = torch.randn(images, classes, generator=generator)
    label_N = torch.multinomial(logit_NC.softmax(1), 1, generator=generator).squeeze(1)
    return temperature * logit_NC, label_N


def labels_case(seed, temperature=3.0, images=2000, labels=4):
    generator = torch.Generator().manual_seed(seed)
    logit_NC = torch.randn(images, labels, generator=generator)
    target_NC = (torch.rand(images, labels, generator=generator) < logit_NC.sigmoid()).to(torch.int8)
    return temperature * logit_NC, target_NC


@pytest.mark.parametrize("case", [classes_case, labels_case])
@pytest.mark.parametrize("true", [0.25, 1.0, 3.0])
def test_finds_the_temperature_that_labels_were_drawn_with(case, true):
    found = fit_temperature(*case(0, true))
    assert found.temperature == pytest.approx(true, rel=0.1)
    assert found.nll_after <= found.nll_before
    assert not found.at_bound


def softened(target, classes):
    soft = 1 / (target.numel() + 2)
    if target.ndim == 1:
        return F.one_hot(target, classes).double() * (1 - soft) + soft / classes
    return target.double() * (1 - 2 * soft) + soft


@pytest.mark.parametrize("case", [classes_case, labels_case])
def test_is_where_scipy_finds_the_least_likelihood(case):
    optimize = pytest.importorskip("scipy.optimize")
    for seed in range(3):
        logit_NC, target = case(seed, images=150)
        wanted_NC = softened(target, logit_NC.shape[1])
        loss = F.cross_entropy if target.ndim == 1 else F.binary_cross_entropy_with_logits

        def nll(log, logit_NC=logit_NC, wanted_NC=wanted_NC, loss=loss):
            return float(loss(logit_NC.double() / np.exp(log), wanted_NC))

        found = fit_temperature(logit_NC, target)
        least = optimize.minimize_scalar(nll, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-9})
        assert np.log(found.temperature) == pytest.approx(least.x, abs=1e-4)
        assert found.nll_after == pytest.approx(least.fun)
        assert found.nll_before == pytest.approx(nll(0.0))


def test_unknown_entries_count_nowhere():
    logit_NC, target_NC = labels_case(1)
    cut_NC = target_NC.clone()
    cut_NC[::2] = -1
    assert fit_temperature(logit_NC, cut_NC) == fit_temperature(logit_NC[1::2], target_NC[1::2])


def test_a_model_without_mistakes_stays_finite():
    logit_NC = torch.eye(4).repeat(25, 1) * 8
    found = fit_temperature(logit_NC, torch.arange(4).repeat(25))
    assert BOUNDS[0] < found.temperature < 8
    highest = probabilities(logit_NC, several=False, temperature=found.temperature).amax()
    assert 0.95 < float(highest) < 1 - 1e-3  # a hundred images do not prove one in a million
    several = fit_temperature(logit_NC - 4, torch.eye(4).repeat(25, 1))
    assert BOUNDS[0] < several.temperature < 8


def test_scores_that_say_the_opposite_end_at_the_bound():
    logit_NC = torch.eye(3)[[0, 1, 2]]
    found = fit_temperature(logit_NC, torch.tensor([1, 2, 0]))
    assert found.at_bound
    assert found.temperature == pytest.approx(BOUNDS[1])
    constant = fit_temperature(torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1]))
    assert np.isfinite(constant.temperature)


def test_ranks_do_not_change():
    logit_NC, _ = classes_case(0)
    before = probabilities(logit_NC, several=False).argsort(1)
    assert torch.equal(before, probabilities(logit_NC, several=False, temperature=2.5).argsort(1))


def test_reliability_equals_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    logit_NC, label_N = classes_case(2)
    probability_NC = probabilities(logit_NC, several=False)
    confidence_N, predicted_N = probability_NC.max(1)
    theirs = functional.multiclass_calibration_error(probability_NC, label_N, 5, n_bins=15)
    assert reliability(confidence_N, predicted_N == label_N).ece == pytest.approx(float(theirs), abs=1e-5)
    logit_NC, target_NC = labels_case(2)
    probability_M, target_M = probabilities(logit_NC, several=True).flatten(), target_NC.flatten()
    theirs = functional.binary_calibration_error(probability_M, target_M, n_bins=10)
    assert reliability(probability_M, target_M, bins=10).ece == pytest.approx(float(theirs), abs=1e-5)


def test_the_temperature_brings_confidence_to_accuracy():
    logit_NC, label_N = classes_case(3)
    errors = []
    for temperature in (None, fit_temperature(logit_NC, label_N).temperature):
        confidence_N, predicted_N = probabilities(logit_NC, several=False, temperature=temperature).max(1)
        errors.append(reliability(confidence_N, predicted_N == label_N).ece)
    assert errors[0] > 0.2
    assert errors[1] < 0.04


def test_bins_worked_by_hand():
    found = reliability(torch.tensor([0.0, 0.5, 0.6, 1.0]), torch.tensor([0, 1, 0, 1]), bins=2)
    assert found.count_K.tolist() == [1, 3]
    assert found.confidence_K.tolist() == pytest.approx([0.0, 0.7])
    assert found.accuracy_K.tolist() == pytest.approx([0.0, 2 / 3])
    assert found.ece == pytest.approx(3 / 4 * (0.7 - 2 / 3))
    assert reliability(torch.tensor([0.1]), torch.tensor([0]), bins=2).accuracy_K.isnan().tolist() == [False, True]


def test_unknown_entries_and_blocks_change_no_bin(monkeypatch):
    logit_NC, target_NC = labels_case(5)
    probability_NC, unknown_NC = logit_NC.sigmoid(), torch.rand(target_NC.shape) < 0.3
    known = reliability(probability_NC[~unknown_NC], target_NC[~unknown_NC])
    monkeypatch.setattr("kinsight.metrics.blocks.CELLS", 77)
    found = reliability(probability_NC, target_NC.masked_fill(unknown_NC, -1))
    assert torch.equal(found.count_K, known.count_K)
    assert found.ece == pytest.approx(known.ece)


@pytest.mark.parametrize(
    ("logit_NC", "target", "kind"),
    [
        (torch.zeros(2, 3), -torch.ones(2, 3), DataError),
        (torch.full((2, 3), torch.inf), torch.zeros(2, 3), DataError),
        (torch.zeros(2, 3), torch.tensor([0, 3]), DataError),
        (torch.zeros(2, 3), torch.tensor([0, 1, 2]), SpecError),
        (torch.zeros(0, 3), torch.zeros(0).long(), DataError),
    ],
)
def test_bad_input_is_named(logit_NC, target, kind):
    with pytest.raises(kind):
        fit_temperature(logit_NC, target)
