"""Curves against a loop over queries, lists and neighbours."""

import numpy as np
import pytest
import torch

from kinsight.partition.measure import Curve, curve, imbalance, sizes


def test_recall_and_scanned_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    list_NC = torch.stack([torch.randperm(8, generator=generator)[:3] for _ in range(50)])
    list_NC[torch.rand(50, 3, generator=generator) < 0.4] = -1
    list_NC[:, 0] = list_NC[:, 0].clamp_min(0)
    order_QL = torch.stack([torch.randperm(8, generator=generator)[:5] for _ in range(20)])
    truth_QK = torch.randint(50, (20, 4), generator=generator)
    truth_QK[0, 2:] = -1
    found = curve(order_QL, list_NC, truth_QK, [1, 3, 5], 8)
    for place, probe in enumerate((1, 3, 5)):
        scanned, recall = [], []
        for query in range(20):
            lists = set(order_QL[query, :probe].tolist())
            scanned.append(sum(int(each) in lists for each in list_NC.flatten()))
            wanted = [each for each in truth_QK[query].tolist() if each >= 0]
            recall.append(np.mean([bool(lists & set(list_NC[each].tolist())) for each in wanted]))
        assert found.scanned[place] == pytest.approx(np.mean(scanned))
        assert found.p95[place] == pytest.approx(np.quantile(scanned, 0.95))
        assert found.recall[place] == pytest.approx(np.mean(recall))


def test_between_rows_and_beyond_them() -> None:
    found = Curve(np.array([1, 2]), np.array([100.0, 200.0]), np.array([0.0, 0.0]), np.array([0.8, 0.9]))
    assert found.recall_at(150) == pytest.approx(0.85)
    assert found.scanned_for(0.85) == pytest.approx(150)
    assert np.isnan(found.recall_at(50)) and np.isnan(found.scanned_for(0.95))
    assert found.scanned_for(0.5) == found.scanned_for(0.8) == 100  # one list at least is looked into


def test_imbalance() -> None:
    assert imbalance(torch.tensor([5, 5, 5])) == pytest.approx(1)
    assert imbalance(torch.tensor([15, 0, 0])) == pytest.approx(3)
    assert sizes(torch.tensor([[0, 1], [0, -1]]), 3).tolist() == [2, 1, 0]
