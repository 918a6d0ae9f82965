"""Intervals of the area under the curve and of the equal error rate, over classes."""

import pytest
import torch

from kinsight.metrics import auc, draw_pairs, eer, pair_intervals, roc


def _clusters(classes: int, each: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre_CD = torch.nn.functional.normalize(torch.randn(classes, 16, generator=generator), dim=1)
    label_N = torch.arange(classes).repeat_interleave(each)
    return centre_CD[label_N] + spread * torch.randn(len(label_N), 16, generator=generator), label_N


def test_intervals_of_the_curve_equal_a_naive_bootstrap_of_repeated_pairs():
    emb_ND, label_N = _clusters(12, 4, 0.3, 0)
    pairs = draw_pairs(emb_ND, label_N)
    found = pair_intervals(pairs, label_N, resamples=400, seed=3)
    generator, rows = torch.Generator().manual_seed(8), []
    low_P, high_P = label_N[pairs.different_index_P2].unbind(1)
    for _ in range(400):
        times_C = torch.bincount(torch.randint(12, (12,), generator=generator), minlength=12)
        same_P = pairs.same_P.repeat_interleave(times_C[label_N[pairs.same_index_P2[:, 0]]])
        curve = roc(same_P, pairs.different_P.repeat_interleave(times_C[low_P] * times_C[high_P]))
        rows.append((auc(curve), eer(curve)))
    low, high = torch.quantile(torch.tensor(rows), torch.tensor([0.025, 0.975]), dim=0).tolist()
    whole = roc(pairs.same_P, pairs.different_P)
    for at, (name, value) in enumerate((("auc", auc(whole)), ("eer", eer(whole)))):
        width = high[at] - low[at]
        assert found[name].low == pytest.approx(low[at], abs=0.25 * width)
        assert found[name].high == pytest.approx(high[at], abs=0.25 * width)
        assert found[name].low < value < found[name].high
    assert pair_intervals(pairs, label_N, resamples=400, seed=3) == found
    few = label_N < 9
    assert not pair_intervals(draw_pairs(emb_ND[few], label_N[few]), label_N[few])


def test_intervals_of_the_curve_hold_on_other_classes():
    truth = auc(roc(*_sorts(draw_pairs(*_clusters(1500, 4, 0.3, 10_000), max_pairs=200_000))))
    inside = 0
    for seed in range(20):
        emb_ND, label_N = _clusters(40, 6, 0.3, seed + 1)
        interval = pair_intervals(draw_pairs(emb_ND, label_N), label_N, resamples=100)["auc"]
        inside += interval.low <= truth <= interval.high
    assert inside >= 14


def test_more_pairs_than_steps_hardly_change_the_intervals(monkeypatch):
    emb_ND, label_N = _clusters(60, 8, 0.3, 0)
    pairs = draw_pairs(emb_ND, label_N)
    exact = pair_intervals(pairs, label_N)
    monkeypatch.setattr("kinsight.metrics.curve_intervals._STEPS", 2000)
    coarse = pair_intervals(pairs, label_N)
    for name, interval in exact.items():
        assert coarse[name].low == pytest.approx(interval.low, abs=2e-3)
        assert coarse[name].high == pytest.approx(interval.high, abs=2e-3)


def _sorts(pairs):
    return pairs.same_P, pairs.different_P
