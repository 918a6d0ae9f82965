"""The greatest of rows, by groups: those of a sort."""

import pytest
import torch

from kinsight.neighbors import greatest as module
from kinsight.neighbors.greatest import greatest


@pytest.mark.parametrize("columns", [1, 7, 64, 255, 515, 1024, 2051, 9000])
@pytest.mark.parametrize("k", [1, 5, 60])
@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("rows", [0, 1, 50])
def test_as_a_sort(columns: int, k: int, steps: int | None, rows: int) -> None:
    """steps: few different values, so that many are equal."""
    k = min(k, columns)
    score_BN = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))
    score_BN = score_BN if steps is None else (score_BN * steps).round()
    score_BN[:, : columns // 3] = -torch.inf
    value_BK, place_BK = greatest(score_BN, k)
    assert torch.equal(value_BK, score_BN.sort(dim=1, descending=True).values[:, :k])
    assert torch.equal(score_BN.gather(1, place_BK), value_BK)
    assert all(len(set(row)) == k for row in place_BK.tolist())


def test_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW_THREADS", 0)
    score_BN = torch.randn(101, 700, generator=torch.Generator().manual_seed(0))
    value_BK, place_BK = greatest(score_BN, 7)
    assert torch.equal(value_BK, score_BN.topk(7, dim=1).values) and torch.equal(score_BN.gather(1, place_BK), value_BK)


def test_zeros_of_both_signs_and_the_smallest_numbers_keep_their_order() -> None:
    score_BN = torch.tensor([[0.0, -0.0, 1e-45, -1e-45, -torch.inf, torch.inf, -3e38, 3e38]]).expand(20, -1)
    value_BK, place_BK = greatest(score_BN, 8)
    assert place_BK.tolist()[0][:3] == [5, 7, 2] and place_BK.tolist()[0][-3:] == [3, 6, 4]
    assert torch.equal(value_BK, score_BN.sort(dim=1, descending=True).values)
