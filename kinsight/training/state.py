"""What a training consists of between two steps: the live objects, and their state as tensors and numbers."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from kinsight.training.averaging import WeightAverage
from kinsight.training.window import Window

Broken = dict[str, list[tuple[int, str, str]]]
"""(record number, address, reason) of unreadable images, by what they are for."""


@dataclass
class Position:
    """Where a run stands.

    step: optimizer steps done. epoch, batch: the next batch to train on. images: seen so far. best: best validation
    value; best_epoch, best_step: epochs and steps done when it was reached; bad_validations: validations
    since. seconds: training time.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    images: int = 0
    best: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    bad_validations: int = 0
    seconds: float = 0.0
    stopped_early: bool = False


@dataclass
class Training:
    """What a checkpoint holds: the live objects, saved from and restored into.

    broken: the images found unreadable when the last checkpoint was written.
    """

    learner: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    scaler: torch.amp.GradScaler | None
    position: Position = field(default_factory=Position)
    window: Window = field(default_factory=Window)
    broken: Broken = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, running statistics, averages and what the optimizer remembers, by name."""
        tensors = {f"learner.{name}": tensor for name, tensor in self.learner.state_dict().items()}
        names = {id(parameter): name for name, parameter in self.learner.named_parameters()}
        for parameter, moments in self.optimizer.state.items():
            for kind, value in moments.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{names[id(parameter)]}.{kind}"] = value
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        return tensors

    def create_moments(self, wanted: Collection[str]) -> None:
        """Let the optimizer allocate the state that `wanted` names, by a step that moves nothing."""
        if self.optimizer.state:
            return
        held = {name.removeprefix("optimizer.").rpartition(".")[0] for name in wanted if name.startswith("optimizer.")}
        for name, parameter in self.learner.named_parameters():
            parameter.grad = torch.zeros_like(parameter) if name in held else None
        groups = self.optimizer.param_groups
        before = [(group["lr"], group["weight_decay"]) for group in groups]
        for group in groups:
            group["lr"], group["weight_decay"] = 0.0, 0.0
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for group, (rate, decay) in zip(groups, before, strict=True):
            group["lr"], group["weight_decay"] = rate, decay


def random_state() -> dict[str, np.ndarray]:
    """This process's random states."""
    states = {"cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state().numpy()
    return states


def set_random_state(states: dict[str, np.ndarray]) -> None:
    """Go on with the random numbers after those that `random_state` was taken at."""
    torch.set_rng_state(torch.from_numpy(states["cpu"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]))
