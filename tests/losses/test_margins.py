"""Margins equal their formulas in the angle, never rise with it, and have finite gradients everywhere."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from kinsight.losses.margins import lowered_cosine, multiplied_angle, widened_angle

MARGINS = {
    "lowered": partial(lowered_cosine, margin=0.4),
    "widened": partial(widened_angle, margin_rad=math.radians(28.6)),
    "widened-most": partial(widened_angle, margin_rad=math.pi / 2),
    **{f"multiplied-{m}": partial(multiplied_angle, margin=m) for m in range(1, 9)},
}


def _formula(name: str, theta: float) -> float:
    kind, _, number = name.partition("-")
    if kind == "lowered":
        return math.cos(theta) - 0.4
    if kind == "widened":
        m = math.pi / 2 if number else math.radians(28.6)
        return math.cos(theta + m) if theta <= math.pi - m else math.cos(theta) - m * math.sin(m)
    k = math.floor(int(number) * theta / math.pi)
    return (-1) ** k * math.cos(int(number) * theta) - 2 * k


def _angles(steps: int) -> Tensor:
    return torch.linspace(0, math.pi, steps, dtype=torch.float64)


@pytest.mark.parametrize("name", MARGINS)
def test_formula_over_all_angles(name: str) -> None:
    theta = _angles(1001)
    expected = torch.tensor([_formula(name, angle) for angle in theta.tolist()], dtype=torch.float64)
    torch.testing.assert_close(MARGINS[name](theta.cos()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MARGINS)
def test_wider_angle_never_scores_more(name: str) -> None:
    values = MARGINS[name](_angles(4001).cos())
    assert values.diff().max() <= 1e-12


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_to_the_ends_and_a_little_beyond(name: str, dtype: torch.dtype) -> None:
    step = torch.finfo(dtype).eps
    ends = [sign * (1 + ulps * step) for sign in (-1, 1) for ulps in (-8, -4, -2, -1, -0.5, 0, 1, 4)]
    cos = torch.tensor([*ends, 0.0, -0.0], dtype=dtype, requires_grad=True)
    value = MARGINS[name](cos)
    value.sum().backward()
    assert value.isfinite().all()
    assert cos.grad is not None and cos.grad.isfinite().all()
    assert cos.grad.abs().max() <= max(64, 1 / math.sqrt(step) + 2)


@pytest.mark.parametrize("name", MARGINS)
def test_gradcheck(name: str) -> None:
    # Angles away from the joints of the pieces, where the widened angle has a step.
    cos = (_angles(38) * 0.987 + 0.011).cos().requires_grad_()
    assert torch.autograd.gradcheck(MARGINS[name], (cos,))
