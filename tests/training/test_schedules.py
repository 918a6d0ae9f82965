"""Learning rates against tables worked out by hand."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from kinsight.specs.optim import Schedule
from kinsight.specs.train import TrainSpec
from kinsight.training.checks import tell_never_reached
from kinsight.training.schedules import learning_rate


def rates(spec: dict[str, Any], *, lr: float = 1.0, steps_per_epoch: int = 3, total_steps: int = 8) -> list[float]:
    schedule = TypeAdapter(Schedule).validate_python(spec)
    return [
        learning_rate(schedule, lr, step, steps_per_epoch=steps_per_epoch, progress=step / total_steps)
        for step in range(total_steps)
    ]


def test_cosine() -> None:
    # (1 + cos(pi * step / 8)) / 2
    table = [1.0, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]
    assert rates({"kind": "cosine", "warmup_steps": 0, "min_lr": 0}) == pytest.approx(table, abs=1e-6)
    above = [0.2 + 0.8 * value for value in table]
    assert rates({"kind": "cosine", "warmup_steps": 0, "min_lr": 0.2}) == pytest.approx(above, abs=1e-6)


def test_cosine_never_rises_to_its_end() -> None:
    spec = {"kind": "cosine", "warmup_steps": 0, "min_lr": 0.5}
    assert rates(spec, lr=0.1) == pytest.approx([0.1] * 8)


def test_steps_by_epochs_and_by_steps() -> None:
    by_epochs = {"kind": "step", "at": [1, 2], "gamma": 0.1}
    assert rates(by_epochs) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    by_steps = {"kind": "step", "at": [2, 7], "unit": "steps", "gamma": 0.5}
    assert rates(by_steps, lr=4) == pytest.approx([4, 4, 2, 2, 2, 2, 2, 1])


def test_a_rate_for_each_epoch() -> None:
    spec = {"kind": "step", "at": [1, 2], "learning_rates": [0.25, 3]}
    assert rates(spec, lr=0.5) == pytest.approx([0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 3, 3])


@pytest.mark.parametrize("given", [[0.1], [0.1, 0.2, 0.3], []])
def test_as_many_rates_as_epochs(given: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected 2, one for each of at=\[20, 40\]"):
        rates({"kind": "step", "at": [20, 40], "learning_rates": given})


def test_staircase_of_epochs_follows_the_number_of_images() -> None:
    """tf.train.exponential_decay with decay_steps = decay_epochs * steps an epoch."""
    spec = {"kind": "exponential", "gamma": 0.95, "every": 2, "staircase": True}
    found = rates(spec, lr=0.01, steps_per_epoch=4, total_steps=24)
    assert found == pytest.approx([0.01 * 0.95 ** (step // 8) for step in range(24)])


def test_polynomial_to_a_thousandth() -> None:
    """tf.train.polynomial_decay with end_learning_rate = lr / 1000 and power 0.9."""
    found = rates({"kind": "polynomial", "power": 0.9}, lr=0.01, total_steps=10)
    assert found == pytest.approx([(0.01 - 1e-5) * (1 - step / 10) ** 0.9 + 1e-5 for step in range(10)])


def test_exponential_smooth_and_staircase() -> None:
    smooth = {"kind": "exponential", "gamma": 0.25, "every": 2, "unit": "steps"}
    assert rates(smooth, total_steps=5) == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625])
    stairs = smooth | {"staircase": True}
    assert rates(stairs, total_steps=5) == pytest.approx([1, 1, 0.25, 0.25, 0.0625])
    epochs = {"kind": "exponential", "gamma": 0.5, "every": 1, "staircase": True}
    assert rates(epochs) == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_polynomial() -> None:
    # 0.1 + 0.9 * (1 - step / 4)^2
    spec = {"kind": "polynomial", "power": 2, "min_lr_ratio": 0.1}
    assert rates(spec, total_steps=4) == pytest.approx([1, 0.60625, 0.325, 0.15625])


def test_constant() -> None:
    assert rates({"kind": "constant"}, lr=0.3) == [0.3] * 8


@pytest.mark.parametrize("kind", ["cosine", "exponential", "polynomial", "constant", "step"])
def test_warmup_multiplies_the_schedule(kind: str) -> None:
    spec: dict[str, Any] = {"kind": kind, "at": [1]} if kind == "step" else {"kind": kind}
    plain = rates(spec | {"warmup_steps": 0})
    warm = rates(spec | {"warmup_steps": 4, "warmup_ratio": 0.2})
    factors = [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1]
    assert warm == pytest.approx([rate * factor for rate, factor in zip(plain, factors, strict=True)])


def test_changes_behind_the_end_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    base = {"output": "x", "data": {"train": {"path": "x"}}}
    for schedule, vain in (
        ({"at": [2, 4, 9]}, "4, 9 (epochs)"),
        ({"at": [20, 40], "unit": "steps"}, "40 (steps)"),
        ({"at": [3]}, None),
    ):
        spec = TrainSpec.model_validate(base | {"schedule": {"kind": "step", **schedule}, "epochs": 4})
        capsys.readouterr()
        tell_never_reached(spec, 40, 10)
        said = " ".join(capsys.readouterr().err.split())
        assert (f"schedule.at: {vain} is never reached: the training ends at step 40" in said) == (vain is not None)
        tell_never_reached(spec, None, 10)
        assert not capsys.readouterr().err
