"""N processes with synchronised batch norm compute what one process computes on the whole batch."""

import copy
from pathlib import Path

import pytest
import torch
from gloo_ranks import Result, own_rows, run_ranks
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from kinsight.parallel.batchnorm import SyncBatchNorm, convert

ROWS = 11


def _network(dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            BatchNormAct2d(4, act_layer=nn.SiLU),
            nn.BatchNorm2d(4, affine=False, momentum=None),
            nn.Flatten(),
            nn.Linear(16, 5),
            nn.BatchNorm1d(5, track_running_stats=False, eps=1e-3),
        ).to(dtype)


def _images() -> Tensor:
    # A mean far from 0 would show a variance computed as E[x^2] - E[x]^2.
    noise = torch.randn(ROWS, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (noise + 50).to(memory_format=torch.channels_last)


def _train(network: nn.Module, images: Tensor, weight: Tensor) -> Result:
    """Two forward passes (so that running statistics move twice), one backward pass, one evaluation."""
    images = images.clone().requires_grad_()
    network(images)
    output = network(images)
    (output.sigmoid() * weight).sum().backward()
    assert images.grad is not None
    result = {"output": output.detach(), "input_grad": images.grad}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        result[f"grad {name}"] = parameter.grad
    result |= {f"buffer {name}": buffer.clone() for name, buffer in network.named_buffers()}
    network.eval()
    # The last layer keeps no running statistics and would use the rank's own batch.
    assert isinstance(network, nn.Sequential)
    result["evaluated"] = network[:-1](images).detach()
    return result


def _weight() -> Tensor:
    return torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _worker(number: int, world: int) -> Result:
    network = convert(_network())
    assert sum(isinstance(module, SyncBatchNorm) for module in network.modules()) == 4
    return _train(network, own_rows(_images(), number, world), own_rows(_weight(), number, world))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_equal_to_one_process(world: int, tmp_path: Path) -> None:
    whole = _train(_network(), _images(), _weight())
    parts = run_ranks(_worker, world, tmp_path)
    for name, expected in whole.items():
        if name in ("output", "input_grad", "evaluated"):
            actual = torch.cat([part[name] for part in parts])
        elif name.startswith("grad"):
            actual = torch.stack([part[name] for part in parts]).sum(0)
        else:
            actual = parts[0][name]
            assert all(torch.equal(part[name], actual) for part in parts), name
        torch.testing.assert_close(
            actual, expected, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )


def _half_worker(number: int, world: int) -> Result:
    norm = convert(nn.BatchNorm2d(3))
    images = own_rows(_images(), number, world).bfloat16().requires_grad_()
    output = norm(images)
    (output * own_rows(_weight().bfloat16(), number, world)[:, :3, None, None]).sum().backward()
    assert images.grad is not None
    return {"output": output.detach(), "grad": images.grad}


def test_half_precision_input_keeps_wide_statistics(tmp_path: Path) -> None:
    images = _images().bfloat16().double().requires_grad_()
    output = nn.BatchNorm2d(3).double()(images)
    (output * _weight().bfloat16().double()[:, :3, None, None]).sum().backward()
    parts = run_ranks(_half_worker, 2, tmp_path)
    assert parts[0]["output"].dtype == torch.bfloat16
    half = {name: torch.cat([part[name] for part in parts]).double() for name in ("output", "grad")}
    torch.testing.assert_close(half["output"], output.detach(), rtol=2**-8, atol=1e-6)
    assert images.grad is not None
    torch.testing.assert_close(half["grad"], images.grad, rtol=2**-8, atol=1e-6)


def _single_value_worker(number: int, world: int) -> Result:
    norm = convert(nn.BatchNorm1d(3))
    try:
        norm(torch.zeros(1 if number == 0 else 0, 3))
    except ValueError as error:
        return {"raised": torch.tensor("more than 1 value" in str(error))}
    return {"raised": torch.tensor(False)}


def test_one_value_over_all_ranks_is_refused_by_all(tmp_path: Path) -> None:
    assert all(part["raised"] for part in run_ranks(_single_value_worker, 2, tmp_path))


def test_convert_keeps_tensors_names_and_behaviour() -> None:
    network = _network().eval()
    twin = copy.deepcopy(network)
    before = network.state_dict(keep_vars=True)
    assert convert(network) is network
    after = network.state_dict(keep_vars=True)
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)
    images = _images()
    assert torch.equal(network[:-1](images), twin[:-1](images))
    assert torch.equal(network.train()(images), twin.train()(images))
    assert convert(network[1]) is network[1], "converting twice changes nothing"


def test_convert_refuses_a_norm_it_does_not_know() -> None:
    class ClampedNorm(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).clamp(-1, 1)

    with pytest.raises(TypeError, match="ClampedNorm"):
        convert(nn.Sequential(ClampedNorm(3)))
