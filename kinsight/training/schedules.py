"""Learning rate at a step: a pure function, so that a resumed run sees the same rates."""

import math
from typing import assert_never

from kinsight.specs.optim import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    PolynomialSchedule,
    Schedule,
    StepSchedule,
)

_WARMUP_STEPS, _WARMUP_SHARE = 100, 0.1  # of a schedule that leaves it open


def with_warmup(schedule: Schedule, steps: int | None) -> Schedule:
    """The schedule with its warm-up decided. steps: of the whole training, None where nobody knows."""
    if schedule.warmup_steps is not None:
        return schedule
    most = _WARMUP_STEPS if steps is None else int(_WARMUP_SHARE * steps)
    return schedule.model_copy(update={"warmup_steps": min(_WARMUP_STEPS, most)})


def learning_rate(schedule: Schedule, lr: float, step: int, *, steps_per_epoch: int, progress: float) -> float:
    """The rate of optimizer step `step` (from 0); progress: share of the training that lies behind it, 0 to 1.

    During the first `warmup_steps` the rate of the schedule proper is multiplied by a factor that rises linearly from
    `warmup_ratio` to 1; the schedule itself runs from step 0. A schedule that leaves its warm-up open has none:
    see `with_warmup`.
    """
    match schedule:
        case CosineSchedule():
            low = min(schedule.min_lr, lr)
            rate = low + (lr - low) * 0.5 * (1 + math.cos(math.pi * progress))
        case StepSchedule():
            unit = steps_per_epoch if schedule.unit == "epochs" else 1
            changes = sum(step >= at * unit for at in schedule.at)
            if schedule.learning_rates is None:
                rate = lr * schedule.gamma**changes
            else:
                rate = [lr, *schedule.learning_rates][changes]
        case ExponentialSchedule():
            intervals = step / (schedule.every * (steps_per_epoch if schedule.unit == "epochs" else 1))
            rate = lr * schedule.gamma ** (math.floor(intervals) if schedule.staircase else intervals)
        case PolynomialSchedule():
            low = lr * schedule.min_lr_ratio
            rate = low + (lr - low) * (1 - progress) ** schedule.power
        case ConstantSchedule():
            rate = lr
        case _:
            assert_never(schedule)
    if schedule.warmup_steps is not None and step < schedule.warmup_steps:
        rate *= schedule.warmup_ratio + (1 - schedule.warmup_ratio) * step / schedule.warmup_steps
    return rate
