"""When a training is saved, and how: checkpoints to go on from, snapshots to keep."""

import time

from kinsight.parallel.groups import barrier
from kinsight.training import checkpoint
from kinsight.training.broken import collect_broken
from kinsight.training.finite import stop_unless_finite_weights
from kinsight.training.prepared import Prepared, origin
from kinsight.training.record import Record
from kinsight.training.run_folder import RunFolder
from kinsight.training.snapshots import write_snapshot
from kinsight.training.validation import share_main_buffers


class Saver:
    """Writes checkpoints and knows when the last one was."""

    def __init__(self, prepared: Prepared, run: RunFolder, record: Record) -> None:
        self._prepared, self._run, self._record = prepared, run, record
        self._origin = origin(prepared)
        self._last = time.monotonic()

    def time_is_up(self) -> bool:
        """Whether `checkpoint.every_minutes` have passed since the last checkpoint."""
        return time.monotonic() - self._last > 60 * self._prepared.spec.checkpoint.every_minutes

    def after_step(self, *, wanted: bool, epoch_ended: bool, finished: bool) -> None:
        """Save where that is due, or wanted, or the training is finished. Raises as `save`."""
        snapshot = _snapshot_is_due(self._prepared, finished)
        if wanted or snapshot or finished or _checkpoint_is_due(self._prepared, epoch_ended):
            self.save()
            if snapshot:
                write_snapshot(self._prepared, self._run)

    def save(self) -> None:
        """Write a checkpoint and mirror it to a remote output.

        Raises RunError when the last step has left weights that are not finite: such a state is of no use to anybody.
        """
        training, run = self._prepared.training, self._run
        stop_unless_finite_weights(self._prepared)
        share_main_buffers(self._prepared)
        training.broken = collect_broken(self._prepared)
        self._record.flush()
        keep = self._prepared.spec.checkpoint.keep
        checkpoint.save(run.checkpoints, training, self._origin, keep=keep, best=run.best)
        run.sync()
        barrier()
        self._last = time.monotonic()


def _checkpoint_is_due(prepared: Prepared, epoch_ended: bool) -> bool:
    position, settings = prepared.training.position, prepared.spec.checkpoint
    if settings.every_steps is not None and position.step % settings.every_steps == 0:
        return True
    return epoch_ended and position.epoch % settings.every_epochs == 0


def _snapshot_is_due(prepared: Prepared, finished: bool) -> bool:
    position, settings = prepared.training.position, prepared.spec.snapshots
    if settings is None:
        return False
    return finished or (settings.every_steps is not None and position.step % settings.every_steps == 0)
