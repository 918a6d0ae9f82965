"""One optimizer step on a batch that may be too large to be computed at once.

A step's images are computed in `batch.accumulate` pieces. Losses over classes are sums over images: each piece's loss
is taken and forgotten. Losses over pairs need all embeddings together, and get them by gradient caching (Gao et al.
2021): the pieces are embedded without a graph, the loss and its gradient with respect to the embeddings are taken on
all of them, then each piece is embedded again, with the same random numbers, and passed its part of that gradient.
Memory is a piece's, the result that of the whole batch, for any loss and miner; batch norm sees a piece's statistics
either way.

Shapes: B images of this process in the step, b of a piece.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinsight.data import Batch
from kinsight.training.finite import stop_unless_finite_loss
from kinsight.training.mixing import Mixed, mix_images
from kinsight.training.prepared import Prepared, Slopes


def train_step(prepared: Prepared, learner: nn.Module, batch: Batch, rows: list[int]) -> dict[str, Tensor]:
    """One optimizer step; returns the loss and its terms, to be averaged over the ranks. rows: images of each rank.

    Raises RunError on a loss that is not finite, before the optimizer would step.
    """
    device = prepared.device
    images = batch.images_BCHW.to(device, non_blocking=True)
    images = prepared.augment(images, batch.epoch, batch.index_B)
    target = prepared.targets.of(batch.index_B).to(device, non_blocking=True)
    mix, seed = prepared.spec.mix, prepared.spec.seed
    mixed = mix_images(mix, images, target, seed=seed, epoch=batch.epoch, index_B=batch.index_B)
    pieces = min(prepared.spec.batch.accumulate, min(rows))
    if pieces > 1 and prepared.objective.compares_rows:
        stats = _cached(prepared, learner, batch, mixed, sum(rows), pieces)
    else:
        stats = _summed(prepared, learner, batch, mixed, sum(rows), pieces)
    _update(prepared)
    return stats


def _summed(
    prepared: Prepared, learner: nn.Module, batch: Batch, mixed: Mixed, whole: int, pieces: int
) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    classes = [None] * pieces if mixed.classes is None else list(zip(*_split(mixed.classes, pieces), strict=True))
    parts = zip(*_split((mixed.images_BCHW, mixed.target), pieces), classes, strict=True)
    for number, (images_b, target_b, classes_b) in enumerate(parts):
        with _sync_only_if(learner, number == pieces - 1):
            with prepared.arithmetic.autocast():
                loss, stats = learner(images_b, target_b, whole, classes_b)
            stop_unless_finite_loss(loss, stats, prepared, batch)
            _scaled(prepared, loss).backward()
        for name, value in stats.items():
            totals[name] = totals[name] + value if name in totals else value
    return totals


def _split(tensors: tuple[Tensor, ...], pieces: int) -> list[tuple[Tensor, ...]]:
    return [tensor.tensor_split(pieces) for tensor in tensors]


def _cached(
    prepared: Prepared, learner: nn.Module, batch: Batch, mixed: Mixed, whole: int, pieces: int
) -> dict[str, Tensor]:
    parts = mixed.images_BCHW.tensor_split(pieces)
    emb_BD, aux_BE, states = _embedded(prepared, parts)
    with prepared.arithmetic.autocast():
        objective = prepared.objective
        loss, stats = objective(emb_BD, mixed.target, aux_BD=aux_BE, global_batch=whole, mixed=mixed.classes)
    stop_unless_finite_loss(loss, stats, prepared, batch)
    with _sync_only_if(learner, False):
        _scaled(prepared, loss).backward()
    after = _RandomState.of(prepared.device)
    emb_slopes = _gradient(emb_BD).tensor_split(pieces)
    aux_slopes = [None] * pieces if aux_BE is None else _gradient(aux_BE).tensor_split(pieces)
    for number, (images_b, state, emb, aux) in enumerate(zip(parts, states, emb_slopes, aux_slopes, strict=True)):
        state.restore()
        with _sync_only_if(learner, number == pieces - 1):
            with prepared.arithmetic.autocast():
                surrogate = learner(images_b, slopes=Slopes(emb, aux))
            surrogate.backward()
    after.restore()
    return stats


class _RandomState(NamedTuple):
    """What dropout and the like draw from on this device."""

    device: torch.device
    state: Tensor
    cpu_state: Tensor

    @classmethod
    def of(cls, device: torch.device) -> "_RandomState":
        state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
        return cls(device, state, torch.get_rng_state())

    def restore(self) -> None:
        torch.set_rng_state(self.cpu_state)
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.state, self.device)


def _embedded(prepared: Prepared, parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None, list[_RandomState]]:
    """All embeddings as leaves of a graph, without what led to them, and the random state before each piece."""
    found, states = [], []
    with torch.no_grad(), _statistics_kept(prepared.net):
        for images_b in parts:
            states.append(_RandomState.of(prepared.device))
            with prepared.arithmetic.autocast():
                found.append(prepared.learner.embed(images_b))
    emb_BD = torch.cat([emb for emb, _ in found]).requires_grad_()
    aux = [aux for _, aux in found if aux is not None]
    return emb_BD, torch.cat(aux).requires_grad_() if aux else None, states


@contextlib.contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """Running statistics end as they began: a piece is to count once, when it is embedded for good."""
    before = [buffer.clone() for buffer in net.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in zip(net.buffers(), before, strict=True):
            buffer.copy_(value)


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _update(prepared: Prepared) -> None:
    training, spec = prepared.training, prepared.spec
    if spec.clip_norm is not None:
        if training.scaler is not None:
            training.scaler.unscale_(training.optimizer)
        nn.utils.clip_grad_norm_(training.learner.parameters(), spec.clip_norm)
    if training.scaler is not None:
        training.scaler.step(training.optimizer)
        training.scaler.update()
    else:
        training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    if training.average is not None:
        training.average.update(prepared.averaged, training.position.step + 1)


def _scaled(prepared: Prepared, loss: Tensor) -> Tensor:
    scaler = prepared.training.scaler
    return loss if scaler is None else scaler.scale(loss)


def _sync_only_if(learner: nn.Module, wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Gradients are averaged over the ranks in the last backward pass of a step alone."""
    if isinstance(learner, DistributedDataParallel) and not wanted:
        return learner.no_sync()
    return contextlib.nullcontext()
