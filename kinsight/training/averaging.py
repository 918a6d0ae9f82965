"""Exponential moving average of a network's weights."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightAverage:
    """avg = decay * avg + (1 - decay) * weight after every step; early on the decay is (1 + t) / (10 + t).

    Floating buffers (running statistics) are averaged too, others copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in _tensors(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (from 1)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, tensor in _tensors(module).items():
            average = self.tensors[name]
            if average.dtype.is_floating_point:
                average.lerp_(tensor.detach().to(average.dtype), weight)
            else:
                average.copy_(tensor)

    @contextlib.contextmanager
    def swapped_in(self, module: nn.Module) -> Iterator[None]:
        """Within the block `module` has the averaged weights."""
        self._swap(module)
        try:
            yield
        finally:
            self._swap(module)

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        for name, tensor in _tensors(module).items():
            average = self.tensors[name]
            kept = tensor.detach().clone()
            tensor.copy_(average)
            average.copy_(kept)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
