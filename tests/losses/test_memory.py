"""A memory is part of a larger batch: the same loss for the same anchors, and the same gradient on their side."""

import pytest
import torch

from kinsight.losses import Memory, Objective, PairTerm, SupCon, Triplet, pair_sums
from kinsight.losses.pairs import PairLoss

LABELS = torch.arange(24) % 5


def _rows() -> torch.Tensor:
    return torch.randn(24, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("loss", [SupCon(), Triplet(0.5)], ids=["supcon", "triplet"])
def test_equal_to_the_larger_batch(loss: PairLoss) -> None:
    memory = Memory(16, 6)
    objective = Objective([PairTerm("pairs", 1.0, loss, memory=memory)])
    memory.add(_rows()[8:], LABELS[8:])
    own_BD = _rows()[:8].requires_grad_()
    found, _ = objective(own_BD, LABELS[:8])
    (grad_BD,) = torch.autograd.grad(found, own_BD)

    again_BD = _rows()[:8].requires_grad_()
    whole_BD = torch.cat([again_BD, _rows()[8:]])
    sums = pair_sums(loss, again_BD, LABELS[:8], whole_BD, LABELS)
    wanted = sums.loss(sums.count_P)
    (wanted_BD,) = torch.autograd.grad(wanted, again_BD)
    assert wanted > 0
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(grad_BD, wanted_BD)


def test_a_ring_that_waits_and_then_forgets_the_oldest() -> None:
    memory = Memory(10, 6, warmup_steps=1)
    memory.add(_rows()[:8], LABELS[:8])
    assert len(memory.rows()[0]) == 0, "warming up"
    memory.add(_rows()[:8], LABELS[:8])
    memory.add(_rows()[8:14], LABELS[8:14])
    kept_MD, kept_M = memory.rows()
    wanted = {tuple(row) for row in _rows()[4:14].tolist()}
    assert {tuple(row) for row in kept_MD.tolist()} == wanted and len(kept_M) == 10
    memory.add(_rows(), LABELS)  # more than it holds: the newest
    assert {tuple(row) for row in memory.rows()[0].tolist()} == {tuple(row) for row in _rows()[14:].tolist()}


def test_evaluation_adds_nothing() -> None:
    memory = Memory(16, 6)
    objective = Objective([PairTerm("pairs", 1.0, SupCon(), memory=memory)]).eval()
    objective(_rows(), LABELS)
    assert len(memory.rows()[0]) == 0
