"""Margins equal their formulas in the angle, never rise with it, and have finite gradients everywhere."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from kinsight.losses.margins import arc_margin, lowered_cosine, multiplied_angle, shifted_angle, widened_angle

MARGINS = {
    "lowered": partial(lowered_cosine, margin=0.4),
    "widened": partial(widened_angle, margin_rad=math.radians(28.6)),
    "widened-most": partial(widened_angle, margin_rad=math.pi / 2),
    "paddle": partial(arc_margin, margin_rad=0.5),
    "easy": partial(arc_margin, margin_rad=0.5, easy=True),
    "shifted": partial(shifted_angle, shift_rad=torch.tensor(0.4, dtype=torch.float64)),
    "shifted-back": partial(shifted_angle, shift_rad=torch.tensor(-0.4, dtype=torch.float64)),
    "many": partial(widened_angle, margin_rad=torch.tensor(0.8, dtype=torch.float64)),
    **{f"multiplied-{m}": partial(multiplied_angle, margin=m) for m in range(1, 9)},
}


def _formula(name: str, theta: float) -> float:
    kind, _, number = name.partition("-")
    if kind == "easy":
        return _formula("paddle", theta) if math.cos(theta) > 0 else math.cos(theta)
    if kind == "paddle":
        sin = math.sqrt(1 - math.cos(theta) ** 2 + 1e-6)
        near = math.cos(theta) > math.cos(math.pi - 0.5)
        wider = math.cos(theta) * math.cos(0.5) - sin * math.sin(0.5)
        return wider if near else math.cos(theta) - 0.5 * math.sin(math.pi - 0.5)
    if kind == "shifted":
        return math.cos(min(max(theta + (-0.4 if number else 0.4), 0), math.pi))
    if kind == "many":
        return math.cos(theta + 0.8) if theta <= math.pi - 0.8 else math.cos(theta) - 0.8 * math.sin(0.8)
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
    if name == "easy":  # but for its step at 90 degrees
        assert (values.diff() > 1e-12).sum() == 1
    else:
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
