"""The training loop: the one place that decides when the optimizer steps, and when to log, validate and save.

Shapes: B images of this process in a step, G images of the step over all processes.
"""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kinsight import progress
from kinsight.data import Batch
from kinsight.errors import InterruptedRun
from kinsight.parallel.collectives import rank, world_size
from kinsight.parallel.groups import is_main, sum_over_ranks
from kinsight.training.budget import Budget, Clock
from kinsight.training.mixing import TOGETHER, local_rows
from kinsight.training.optimizers import set_learning_rate
from kinsight.training.prepared import Prepared
from kinsight.training.record import Record
from kinsight.training.run_folder import RunFolder
from kinsight.training.saving import Saver
from kinsight.training.schedules import learning_rate
from kinsight.training.signals import Children, StopRequest
from kinsight.training.step import train_step
from kinsight.training.validation import evaluated_weights, keep_best, validate

# Running statistics are not sent around at every step: they are alike, or shared where they count. Newer versions of
# torch have another name for that, and warn of the old one.
_NEW_NAME = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
_NO_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}


def fit(prepared: Prepared, run: RunFolder, record: Record, stop: StopRequest) -> None:
    """Train from `prepared.training.position` to the end.

    Raises InterruptedRun after saving when `stop` was asked for, RunError on a loss that is not finite (before the
    optimizer would step), DataError past the limit of broken images, StorageError when a checkpoint cannot be written.
    """
    spec, training, budget = prepared.spec, prepared.training, prepared.budget
    position = training.position
    prepared.freezer.at(position.step)
    learner = _distributed(prepared)
    saver = Saver(prepared, run, record)
    _fill_caches(prepared, record)
    with (
        progress.task("train", budget.steps, "steps", events=record.events, quiet=not is_main()) as bar,
        _batches(prepared) as batches,
    ):
        bar.skip_to(position.step)
        clock = None
        while not budget.is_used(position) and not position.stopped_early:
            batch, before = next(batches), budget.share(position)
            clock = clock or Clock(position.seconds)  # starting the readers of images is no training
            rate = _set_rate(prepared, before)
            if prepared.freezer.at(position.step):
                learner = _distributed(prepared)  # which gradients are averaged has changed
            agreed = _agree(batch, stop.wanted, saver.time_is_up())
            if _is_enough(agreed.rows, spec.batch.size):
                stats = train_step(prepared, learner, batch, agreed.rows)
                training.window.add(stats, sum(agreed.rows))
            _advance(prepared, sum(agreed.rows))
            position.seconds = _agreed_seconds(clock, budget)
            ended = budget.is_used(position)
            if position.step % spec.log_every_steps == 0 or ended:
                _log(record, prepared, rate, bar)
            bar.total = budget.expected_steps(position)
            bar.advance(1)
            epoch_ended = position.batch == 0
            if _validation_is_due(prepared, epoch_ended, before):
                bar.at("validate")
                with clock.paused():
                    bar.note(**{spec.validate_.metric: validate(prepared, run, record)})
                bar.at("train")
                position.stopped_early = _stands_still(prepared)
            with clock.paused():
                saver.after_step(
                    wanted=agreed.save or agreed.stop, epoch_ended=epoch_ended, finished=ended or position.stopped_early
                )
            if agreed.stop and not ended:
                raise InterruptedRun(
                    "run.interrupted",
                    f"stopped at {budget.place(position)}; the state is saved in {spec.output}",
                    remedy="give the same command again to go on",
                )
    if prepared.validation is None:
        with evaluated_weights(prepared):
            keep_best(prepared, run)


def _fill_caches(prepared: Prepared, record: Record) -> None:
    """Read the images that are kept in memory, before the first step."""
    if prepared.spec.data.cache == "none":
        return
    for purpose, loader in (("training", prepared.loader), ("validation", prepared.validation)):
        if loader is not None:
            name, count, quiet = f"read {purpose}", len(loader.records), not is_main()
            with (
                prepared.children.starting(),
                progress.task(name, count, "images", events=record.events, quiet=quiet) as bar,
            ):
                loader.fill(bar.advance)


def _set_rate(prepared: Prepared, used: float) -> float:
    """The learning rate of the step that comes, set; used: share of the budget."""
    spec = prepared.spec
    step, each = prepared.training.position.step, prepared.steps_per_epoch
    rate = learning_rate(spec.schedule, spec.optimizer.lr, step, steps_per_epoch=each, progress=used)
    set_learning_rate(prepared.training.optimizer, rate)
    return rate


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


def _is_enough(rows: list[int], batch_size: int) -> bool:
    """Whether what broken images left of a batch is a batch: every rank takes part, and not a lone image."""
    return min(rows) > 0 and (sum(rows) > 1 or batch_size == 1)


def _advance(prepared: Prepared, images: int) -> None:
    position = prepared.training.position
    position.step += 1
    position.images += images
    position.batch += 1
    if position.batch == prepared.steps_per_epoch:
        position.batch = 0
        position.epoch += 1


def _batches(prepared: Prepared) -> contextlib.AbstractContextManager[Iterator[Batch]]:
    """This rank's share of every batch from here to the end, read ahead by the loader."""
    position, together = prepared.training.position, TOGETHER if prepared.spec.mix.kind != "none" else 1

    def requests() -> Iterator[tuple[int, np.ndarray]]:
        step, epoch, batch = position.step, position.epoch, position.batch
        while prepared.budget.steps is None or step < prepared.budget.steps:
            for indices in prepared.sampler.epoch(epoch)[batch:]:
                yield epoch, local_rows(indices, rank(), world_size(), together=together)
                step += 1
            epoch, batch = epoch + 1, 0

    return contextlib.closing(_started(prepared.loader.batches(requests()), prepared.children))


def _started(batches: Iterator[Batch], children: Children) -> Generator[Batch, None, None]:
    with children.starting():
        first = next(batches)
    yield first
    yield from batches


def _distributed(prepared: Prepared) -> nn.Module:
    learner = prepared.training.learner
    if world_size() == 1:
        return learner
    ids = [prepared.device.index] if prepared.device.type == "cuda" else None
    # With the search for unused parameters gradients stay in the order they begin in. Without it they change places
    # after the first step: faster on a GPU, but sums over three or more ranks would round otherwise after a resume.
    fixed = prepared.device.type == "cpu" and world_size() > 2
    return DistributedDataParallel(
        learner, device_ids=ids, gradient_as_bucket_view=True, find_unused_parameters=fixed, **_NO_BUFFERS
    )


def _agreed_seconds(clock: Clock, budget: Budget) -> float:
    """Training time so far; where it is the budget, the main rank's for all, so that they end together."""
    if budget.seconds is None:
        return clock.seconds
    return sum_over_ranks([clock.seconds if is_main() else 0.0])[0]


def _validation_is_due(prepared: Prepared, epoch_ended: bool, before: float) -> bool:
    """before: share of the budget that was used before this step."""
    if prepared.validation is None:
        return False
    position, budget, settings = prepared.training.position, prepared.budget, prepared.spec.validate_
    if budget.is_used(position):
        return True
    if settings.every_steps is not None:
        return position.step % settings.every_steps == 0
    if settings.times is not None:
        return int(budget.share(position) * settings.times + 1e-9) > int(before * settings.times + 1e-9)
    return epoch_ended and position.epoch % settings.every_epochs == 0


def _stands_still(prepared: Prepared) -> bool:
    early = prepared.spec.early_stop
    return early is not None and prepared.training.position.bad_validations >= early.patience


def _log(record: Record, prepared: Prepared, rate: float, bar: progress.Task) -> None:
    """A row of the means over the steps since the last one."""
    means, speed = prepared.training.window.take()
    if means:
        position = prepared.training.position
        record.log("train", position, {"lr": rate, **means, "images_per_s": round(speed, 1)})
        bar.note(**{"images/s": round(speed), "loss": means["loss"]})
