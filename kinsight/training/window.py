"""Mean of the losses over the steps since the last logged row."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kinsight.parallel.collectives import world_size
from kinsight.parallel.groups import sum_over_ranks


class Window:
    """Sums of this rank's statistics; part of a checkpoint, so that a resumed run logs the same rows."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._images = 0
        self._since = time.monotonic()

    def add(self, stats: dict[str, Tensor], images: int) -> None:
        """Take in a step's statistics (0-d tensors) and the images of all ranks."""
        for name, value in stats.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._steps += 1
        self._images += images

    def take(self) -> tuple[dict[str, float], float]:
        """Means over ranks and steps, and images per second; begins anew. Without steps: nothing, 0."""
        names, steps = list(self._sums), max(self._steps, 1)
        sums = sum_over_ranks([float(self._sums[name]) for name in names])
        means = {name: total / world_size() / steps for name, total in zip(names, sums, strict=True)}
        speed = self._images / max(time.monotonic() - self._since, 1e-9)
        self._sums, self._steps, self._images, self._since = {}, 0, 0, time.monotonic()
        return means, speed

    def state(self) -> dict[str, np.ndarray]:
        """What `load` takes."""
        sums = {f"sum.{name}": value.detach().float().cpu().numpy() for name, value in self._sums.items()}
        return {**sums, "steps": np.asarray(self._steps)}

    def load(self, states: Sequence[dict[str, np.ndarray]], device: torch.device) -> None:
        """Go on from this rank's state, or, with another number of ranks, from the mean of all their states."""
        self._sums, self._images, self._since = {}, 0, time.monotonic()
        for key in (key for key in states[0] if key.startswith("sum.")):
            total = torch.stack([torch.from_numpy(np.asarray(state[key])) for state in states]).sum(0)
            self._sums[key.removeprefix("sum.")] = (total / len(states)).to(device)
        self._steps = int(states[0]["steps"])
