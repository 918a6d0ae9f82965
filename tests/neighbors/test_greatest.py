"""The greatest of rows, by groups: those of a sort."""

import pytest
import torch

from kinsight.neighbors.greatest import greatest


@pytest.mark.parametrize("columns", [1, 7, 64, 515, 1024, 2051])
@pytest.mark.parametrize("k", [1, 5, 60])
@pytest.mark.parametrize("steps", [None, 3])
def test_as_a_sort(columns: int, k: int, steps: int | None) -> None:
    """steps: few different values, so that many are equal."""
    k = min(k, columns)
    score_BN = torch.randn(50, columns, generator=torch.Generator().manual_seed(columns))
    score_BN = score_BN if steps is None else (score_BN * steps).round()
    score_BN[:, : columns // 3] = -torch.inf
    value_BK, place_BK = greatest(score_BN, k)
    assert torch.equal(value_BK, score_BN.sort(dim=1, descending=True).values[:, :k])
    assert torch.equal(score_BN.gather(1, place_BK), value_BK)
    assert all(len(set(row)) == k for row in place_BK.tolist())
