"""Gathered rows and sums, and their gradients, equal what one process computes."""

from pathlib import Path

import pytest
import torch
from gloo_ranks import Result, own_rows, run_ranks, split_rows
from torch import Tensor

from kinsight.parallel.collectives import all_gather_rows, all_reduce_sum, rank, row_counts, world_size

ROWS = 13


def _rows() -> Tensor:
    return torch.randn(ROWS, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _rank_factor(number: int) -> Tensor:
    """Each rank's loss weighs the gathered rows differently, so that a forgotten rank would show."""
    return torch.randn(ROWS, 2, 3, generator=torch.Generator().manual_seed(100 + number), dtype=torch.float64)


def _worker(number: int, world: int) -> Result:
    mine = own_rows(_rows(), number, world).requires_grad_()
    gathered = all_gather_rows(mine)
    (gathered * _rank_factor(number)).sum().backward()

    part = mine.detach().sum((0, 1)).requires_grad_()
    total = all_reduce_sum(part)
    (total * (number + 1)).sum().backward()

    counts = row_counts(len(mine), mine.device)
    known = all_gather_rows(mine.detach().transpose(1, 2), counts=counts)
    assert mine.grad is not None and part.grad is not None
    return {
        "gathered": gathered.detach(),
        "grad": mine.grad,
        "total": total.detach(),
        "total_grad": part.grad,
        "counts": torch.tensor(counts),
        "known": known,
        "labels": all_gather_rows(torch.full((len(mine),), number)),
        "half": all_gather_rows(mine.detach().bfloat16()),
        "place": torch.tensor([rank(), world_size()]),
    }


@pytest.mark.parametrize("world", [1, 2, 4])
def test_equal_to_one_process(world: int, tmp_path: Path) -> None:
    counts = split_rows(ROWS, world)
    grad = sum(_rank_factor(number) for number in range(world))
    assert isinstance(grad, Tensor)
    for number, result in enumerate(run_ranks(_worker, world, tmp_path)):
        assert torch.equal(result["gathered"], _rows())
        torch.testing.assert_close(result["grad"], own_rows(grad, number, world))
        torch.testing.assert_close(result["total"], _rows().sum((0, 1)))
        assert torch.equal(result["total_grad"], torch.full((3,), world * (world + 1) / 2, dtype=torch.float64))
        assert result["counts"].tolist() == counts
        assert torch.equal(result["known"], _rows().transpose(1, 2))
        assert result["labels"].tolist() == [owner for owner, count in enumerate(counts) for _ in range(count)]
        assert torch.equal(result["half"], _rows().bfloat16())
        assert result["place"].tolist() == [number, world]


def test_without_a_process_group_nothing_is_copied() -> None:
    rows = _rows().requires_grad_()
    assert all_gather_rows(rows) is rows
    assert all_reduce_sum(rows) is rows
    assert (rank(), world_size()) == (0, 1)
    assert row_counts(ROWS, rows.device) == [ROWS]
