"""The training loop: the one place that decides when the optimizer steps, and when to log, validate and save.

Shapes: B images of this process in a step, G images of the step over all processes.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinsight import progress
from kinsight.data import Batch
from kinsight.errors import InterruptedRun, RunError
from kinsight.parallel.collectives import rank, world_size
from kinsight.parallel.groups import is_main, sum_over_ranks
from kinsight.specs.load import as_tree
from kinsight.training import checkpoint
from kinsight.training.optimizers import set_learning_rate
from kinsight.training.record import Record
from kinsight.training.run_folder import RunFolder
from kinsight.training.schedules import learning_rate
from kinsight.training.setup import Prepared
from kinsight.training.signals import StopRequest
from kinsight.training.validation import evaluated_weights, keep_best, validate

LOG_EVERY_STEPS = 10


def fit(prepared: Prepared, run: RunFolder, record: Record, stop: StopRequest) -> None:
    """Train from `prepared.training.position` to the end.

    Raises InterruptedRun after saving when `stop` was asked for, RunError on a loss that is not finite (before the
    optimizer would step), DataError past the limit of broken images, StorageError when a checkpoint cannot be written.
    """
    spec, training, total_steps = prepared.spec, prepared.training, prepared.total_steps
    position = training.position
    learner = _distributed(prepared)
    saver = _Saver(prepared, run)
    window = _Window()
    started = time.monotonic() - position.seconds
    with (
        progress.task("train", total_steps, "steps", events=record.events, quiet=not is_main()) as bar,
        _batches(prepared) as batches,
    ):
        bar.skip_to(position.step)
        while position.step < total_steps and not position.stopped_early:
            batch = next(batches)
            rate = learning_rate(
                spec.schedule,
                spec.optimizer.lr,
                position.step,
                steps_per_epoch=prepared.steps_per_epoch,
                total_steps=total_steps,
            )
            set_learning_rate(training.optimizer, rate)
            agreed = _agree(batch, stop.wanted, saver.time_is_up())
            if min(agreed.rows) > 0:
                stats = _step(prepared, learner, batch, agreed.rows)
                window.add(stats, sum(agreed.rows))
            _advance(prepared, sum(agreed.rows))
            position.seconds = time.monotonic() - started
            if position.step % LOG_EVERY_STEPS == 0 or position.step == total_steps:
                window.flush(record, prepared, rate, bar)
            bar.advance(1)
            epoch_ended = position.batch == 0
            if _validation_is_due(prepared, epoch_ended):
                bar.note(stage="validating")
                bar.note(stage="training", **{spec.validate_.metric: validate(prepared, run, record)})
                position.stopped_early = _stands_still(prepared)
            save = agreed.save or (epoch_ended and position.epoch % spec.checkpoint.every_epochs == 0)
            if save or agreed.stop or position.step == total_steps or position.stopped_early:
                saver.save()
            if agreed.stop and position.step < total_steps:
                raise InterruptedRun(
                    "run.interrupted",
                    f"stopped at step {position.step} of {total_steps}; the state is saved in {spec.output}",
                    remedy="give the same command again to go on",
                )
    if prepared.validation is None:
        with evaluated_weights(prepared):
            keep_best(prepared, run)


@dataclass(frozen=True)
class _Agreed:
    """What all ranks know of a step: rows on each, whether to save after it, whether to stop after it."""

    rows: list[int]
    save: bool
    stop: bool


def _agree(batch: Batch, stop: bool, save: bool) -> _Agreed:
    world = world_size()
    mine = [0.0] * (world + 2)
    mine[rank()], mine[world], mine[world + 1] = float(len(batch.label_B)), float(save and is_main()), float(stop)
    total = sum_over_ranks(mine)
    return _Agreed([int(count) for count in total[:world]], total[world] > 0, total[world + 1] > 0)


def _step(prepared: Prepared, learner: nn.Module, batch: Batch, rows: list[int]) -> dict[str, Tensor]:
    """One optimizer step on a batch; returns the loss and its terms, to be averaged over the ranks."""
    training, spec, device = prepared.training, prepared.spec, prepared.device
    images = batch.images_BCHW.to(device, non_blocking=True)
    images = prepared.augment(images, batch.epoch, batch.index_B)
    label_B = batch.label_B.to(device, non_blocking=True)
    pieces = min(spec.batch.accumulate, min(rows))
    totals: dict[str, Tensor] = {}
    for number, (images_b, label_b) in enumerate(
        zip(images.tensor_split(pieces), label_B.tensor_split(pieces), strict=True)
    ):
        with _sync_only_if(learner, number == pieces - 1):
            with prepared.arithmetic.autocast():
                loss, stats = learner(images_b, label_b, sum(rows))
            _stop_if_not_finite(loss, stats, prepared, batch)
            (training.scaler.scale(loss) if training.scaler else loss).backward()
        for name, value in stats.items():
            totals[name] = totals[name] + value if name in totals else value
    _update(prepared)
    return totals


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
        training.average.update(prepared.net, training.position.step + 1)


def _advance(prepared: Prepared, images: int) -> None:
    position = prepared.training.position
    position.step += 1
    position.images += images
    position.batch += 1
    if position.batch == prepared.steps_per_epoch:
        position.batch = 0
        position.epoch += 1


def _batches(prepared: Prepared) -> "contextlib.AbstractContextManager[Iterator[Batch]]":
    """This rank's share of every batch from here to the end, read ahead by the loader."""
    position = prepared.training.position

    def requests() -> Iterator[tuple[int, np.ndarray]]:
        step, epoch, batch = position.step, position.epoch, position.batch
        while step < prepared.total_steps:
            for indices in prepared.sampler.epoch(epoch)[batch:]:
                yield epoch, np.array_split(indices, world_size())[rank()]
                step += 1
            epoch, batch = epoch + 1, 0

    return contextlib.closing(prepared.loader.batches(requests()))  # type: ignore[return-value]


def _stop_if_not_finite(loss: Tensor, stats: dict[str, Tensor], prepared: Prepared, batch: Batch) -> None:
    value = float(loss.detach())
    if math.isfinite(value):
        return
    position, arithmetic = prepared.training.position, prepared.arithmetic.name
    terms = ", ".join(f"{name} {float(term):g}" for name, term in stats.items() if name != "loss")
    broken = [name for name, weight in prepared.training.learner.named_parameters() if not weight.isfinite().all()]
    where = f"weights that are not finite: {', '.join(broken[:3])}" if broken else "all weights are finite"
    first = prepared.records.uri(int(batch.index_B[0]))
    raise RunError(
        "run.not-finite",
        f"the loss is {value} at step {position.step} (epoch {position.epoch}, rank {rank()}); no step was taken; "
        f"{terms}; "
        f"learning rate {prepared.training.optimizer.param_groups[0]['lr']:.3g}, {arithmetic}; {where}; "
        f"the batch began with {first}",
        remedy="lower optimizer.lr or set clip_norm; if precision is fp16, try bf16; the last checkpoint is intact",
    )


def _distributed(prepared: Prepared) -> nn.Module:
    learner = prepared.training.learner
    if world_size() == 1:
        return learner
    ids = [prepared.device.index] if prepared.device.type == "cuda" else None
    return DistributedDataParallel(
        learner, device_ids=ids, broadcast_buffers=not prepared.spec.sync_batchnorm, gradient_as_bucket_view=True
    )


def _sync_only_if(learner: nn.Module, wanted: bool) -> contextlib.AbstractContextManager[Any]:
    if isinstance(learner, DistributedDataParallel) and not wanted:
        return learner.no_sync()
    return contextlib.nullcontext()


def _validation_is_due(prepared: Prepared, epoch_ended: bool) -> bool:
    if prepared.validation is None:
        return False
    position, every = prepared.training.position, prepared.spec.validate_.every_epochs
    return position.step == prepared.total_steps or (epoch_ended and position.epoch % every == 0)


def _stands_still(prepared: Prepared) -> bool:
    early = prepared.spec.early_stop
    return early is not None and prepared.training.position.bad_validations >= early.patience


class _Saver:
    """Writes checkpoints and knows when the last one was."""

    def __init__(self, prepared: Prepared, run: RunFolder) -> None:
        self._prepared, self._run = prepared, run
        self._last = time.monotonic()

    def time_is_up(self) -> bool:
        """Whether `checkpoint.every_minutes` have passed since the last checkpoint."""
        return time.monotonic() - self._last > 60 * self._prepared.spec.checkpoint.every_minutes

    def save(self) -> None:
        """Write a checkpoint and mirror it to a remote output."""
        spec = self._prepared.spec
        folder = self._run.path / "checkpoints"
        checkpoint.save(folder, self._prepared.training, as_tree(spec), keep=spec.checkpoint.keep)
        self._run.sync()
        self._last = time.monotonic()


class _Window:
    """Mean of the losses since the last logged row."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._images = 0
        self._since = time.monotonic()

    def add(self, stats: dict[str, Tensor], images: int) -> None:
        for name, value in stats.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._steps += 1
        self._images += images

    def flush(self, record: Record, prepared: Prepared, rate: float, bar: progress.Task) -> None:
        """Log the means over ranks and steps, and begin anew."""
        if not self._steps:
            return
        names = list(self._sums)
        sums = sum_over_ranks([float(self._sums[name]) for name in names])
        means = {name: total / world_size() / self._steps for name, total in zip(names, sums, strict=True)}
        speed = self._images / max(time.monotonic() - self._since, 1e-9)
        position = prepared.training.position
        record.log("train", position.step, position.epoch, {"lr": rate, **means, "images_per_s": round(speed, 1)})
        bar.note(**{"images/s": round(speed), "loss": means["loss"]})
        self._sums, self._steps, self._images, self._since = {}, 0, 0, time.monotonic()
