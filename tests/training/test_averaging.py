"""The moving average of weights against its definition."""

import pytest
import torch
from torch import nn

from kinsight.training.averaging import WeightAverage


def test_definition() -> None:
    module = nn.BatchNorm1d(1)
    average = WeightAverage(module, 0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 4.0, -1.0, 0.5, 8.0], start=1):
        with torch.no_grad():
            module.weight.fill_(value)
            module.running_mean.fill_(value)
            module.num_batches_tracked.fill_(step)
        average.update(module, step)
        # 2/11, 3/12, 4/13, 5/14, 6/15: below the asked decay, which is for later
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(average.tensors["weight"]) == pytest.approx(expected)
        assert int(average.tensors["num_batches_tracked"]) == step
    assert float(average.tensors["running_mean"]) == pytest.approx(
        _folded([2.0, 4.0, -1.0, 0.5, 8.0], start=0.0), rel=1e-6
    )


def _folded(values: list[float], start: float) -> float:
    for step, value in enumerate(values, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        start = decay * start + (1 - decay) * value
    return start


def test_late_steps_use_the_asked_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = WeightAverage(module, 0.9)
    before = float(average.tensors["weight"])
    with torch.no_grad():
        module.weight.fill_(10.0)
    average.update(module, 1000)
    assert float(average.tensors["weight"]) == pytest.approx(0.9 * before + 1.0)


def test_swapping_is_undone_even_by_an_error() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(3.0)
    averaged = average.tensors["weight"].clone()
    with pytest.raises(RuntimeError, match="stop"), average.swapped_in(module):
        assert torch.equal(module.weight, averaged)
        raise RuntimeError("stop")
    assert torch.equal(module.weight, torch.full((2, 2), 3.0))
    assert torch.equal(average.tensors["weight"], averaged)
