"""Decision thresholds: right rates, honest bounds, nothing claimed that the data cannot support."""

import pytest
import torch

from kinsight.metrics import decision_thresholds, draw_pairs


def _clusters(classes: int, each: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre_CD = torch.nn.functional.normalize(torch.randn(classes, 16, generator=generator), dim=1)
    label_N = torch.arange(classes).repeat_interleave(each)
    return centre_CD[label_N] + spread * torch.randn(len(label_N), 16, generator=generator), label_N


def _rates(emb_ND: torch.Tensor, label_N: torch.Tensor, threshold: float) -> tuple[float, float]:
    unit_ND = torch.nn.functional.normalize(emb_ND, dim=1)
    similarity_NN, same_NN = unit_ND @ unit_ND.T, label_N[:, None] == label_N
    upper_NN = torch.ones_like(same_NN).triu(1)
    accepted_NN = similarity_NN >= threshold
    false_match = (accepted_NN & ~same_NN & upper_NN).sum() / (~same_NN & upper_NN).sum()
    true_match = (accepted_NN & same_NN & upper_NN).sum() / (same_NN & upper_NN).sum()
    return float(false_match), float(true_match)


def test_rates_at_the_threshold_are_what_they_say():
    emb_ND, label_N = _clusters(60, 8, 0.15, 0)
    points, reasons = decision_thresholds(draw_pairs(emb_ND, label_N), label_N)
    assert [point.fmr for point in points] == [1e-1, 1e-2, 1e-3, 1e-4]
    assert not reasons
    for point in points:
        false_match, true_match = _rates(emb_ND, label_N, point.threshold)
        assert false_match <= point.fmr * (1 + 1e-6)
        assert false_match > 0.5 * point.fmr
        assert true_match == pytest.approx(point.tmr, abs=1e-6)
        assert point.fmr_low <= false_match <= point.fmr_high
        assert point.tmr_low <= true_match <= point.tmr_high


def test_bounds_hold_on_other_classes_where_counting_pairs_would_not():
    inside = naive_inside = 0
    reference = _clusters(1500, 4, 0.15, 10_000)
    for seed in range(20):
        emb_ND, label_N = _clusters(40, 6, 0.15, seed + 1)
        pairs = draw_pairs(emb_ND, label_N)
        points, _ = decision_thresholds(pairs, label_N, fmrs=[1e-2], resamples=100)
        rate, _ = _rates(*reference, points[0].threshold)
        inside += points[0].fmr_low <= rate <= points[0].fmr_high
        sd = (1e-2 * 0.99 / len(pairs.different_P)) ** 0.5
        naive_inside += abs(rate - 1e-2) <= 1.96 * sd
    assert inside >= 14
    assert naive_inside < inside


def test_what_the_data_cannot_support_is_left_out_with_the_reason():
    emb_ND, label_N = _clusters(12, 3, 0.1, 0)
    points, reasons = decision_thresholds(draw_pairs(emb_ND, label_N), label_N)
    assert [point.fmr for point in points] == [1e-1]
    assert "different pairs; 1,000 are needed" in reasons["1e-2"]
    few, why = decision_thresholds(draw_pairs(emb_ND[:9], label_N[:9]), label_N[:9])
    assert not few
    assert "3 classes" in why["1e-1"]


def test_the_same_seed_gives_the_same_bounds():
    emb_ND, label_N = _clusters(30, 4, 0.15, 3)
    pairs = draw_pairs(emb_ND, label_N)
    assert decision_thresholds(pairs, label_N, seed=5) == decision_thresholds(pairs, label_N, seed=5)
    assert decision_thresholds(pairs, label_N, seed=5) != decision_thresholds(pairs, label_N, seed=6)
