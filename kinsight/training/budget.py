"""How much training there is: so many optimizer steps, or so much time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kinsight.specs.train import TrainSpec
from kinsight.training.state import Position

DEFAULT_EPOCHS = 200


@dataclass(frozen=True)
class Budget:
    """steps: optimizer steps, or seconds: of training; one of them is None."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, spec: TrainSpec, steps_per_epoch: int) -> "Budget":
        """What a spec asks for."""
        if spec.seconds is not None:
            return cls(seconds=spec.seconds)
        return cls(steps=spec.steps or (spec.epochs or DEFAULT_EPOCHS) * steps_per_epoch)

    def share(self, position: Position) -> float:
        """How much of it is used, 0 to 1; a schedule's progress."""
        if self.seconds is not None:
            return min(position.seconds / self.seconds, 1.0)
        assert self.steps is not None, "a budget is of steps or of seconds"
        return min(position.step / self.steps, 1.0)

    def is_used(self, position: Position) -> bool:
        """Whether the training has come to its end."""
        return self.share(position) >= 1.0

    def words(self, images: int) -> str:
        """For people; images: of a step."""
        if self.seconds is not None:
            return f"{self.seconds:,g} s of training in steps of {images} images"
        return f"{self.steps:,} {'step' if self.steps == 1 else 'steps'} of {images} images"

    def place(self, position: Position) -> str:
        """Where a training stands, for people."""
        if self.seconds is not None:
            return f"{position.seconds:,.0f} of {self.seconds:,g} s, step {position.step:,}"
        return f"step {position.step:,} of {self.steps:,}"

    def expected_steps(self, position: Position) -> int | None:
        """Steps in all: known, or estimated from those done; None before the first."""
        share = self.share(position)
        if self.steps is not None:
            return self.steps
        return max(position.step, round(position.step / share)) if share > 0 else None


class Clock:
    """Seconds of training: goes on from those of an earlier part of the run, stands still while paused."""

    def __init__(self, seconds: float) -> None:
        self._before, self._since = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far, all parts of the run together."""
        return self._before + time.monotonic() - self._since

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in the block counts as no training: validation, writing checkpoints."""
        before = self.seconds
        try:
            yield
        finally:
            self._before, self._since = before, time.monotonic()
