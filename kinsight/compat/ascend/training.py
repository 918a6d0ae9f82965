"""The training of run_dcnet.py: a `partition` whose epochs are kept, so that it can go on from any of them.

save_path/epochs/epoch-001.safetensors    the network after each epoch
save_path/work/                           intermediate results: k-means, lists, neighbours, the optimizer's state
save_path/partition.json, ivfast.*        the model, once it is trained

Lists and neighbours depend on the data and on `--metric`, `--param_list`, `--niter`, `--ftopk` and `--seed`; a training
that differs in nothing but how it is trained begins with the lists and neighbours that are there.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinsight import storage
from kinsight.compat.ascend.log import Log
from kinsight.errors import DataError, RunError, SpecError
from kinsight.partition import Partition
from kinsight.partition.artefact import HEADER
from kinsight.partition.fit import FitState
from kinsight.partition.learn import PICTURE, Learning, Watch
from kinsight.partition.verdict import draw_measured
from kinsight.partition.work import UNREADABLE, Work, read_tensors, write_tensors
from kinsight.progress import say, warn
from kinsight.specs.load import as_tree
from kinsight.specs.partition import PartitionSpec

_EPOCHS = "epochs"
_TRAINING = "work/training.json"


class Training:
    """One training in an output folder. data: what the learn file is known by. start: epoch to go on from, 0: none."""

    def __init__(
        self,
        spec: PartitionSpec,
        output: storage.OutputDir,
        data: list[int],
        *,
        start: int,
        loss_scale: float,
        log: Log,
    ) -> None:
        self.spec, self.output, self.start, self.loss_scale, self.log = spec, output, start, loss_scale, log
        tree = as_tree(spec)
        for name in ("output", "device"):
            tree.pop(name)
        fit = tree.pop("fit")
        fit["dropout"] = tree["router"].pop("dropout", 0.0)
        self._fixed = {"spec": tree, "data": data}
        self._fit = {**fit, "loss_scale": loss_scale, "start_epoch": start}

    def run(self, learning: Learning) -> Partition:
        """Train, or go on, or give what was trained. Raises SpecError, DataError."""
        output = self.output
        output.pull(lambda name: name.startswith((f"{_EPOCHS}/", "work/")))
        storage.remove_left_aside(output.path / _EPOCHS)
        same = self._is_same()
        if self.start and not same:
            raise SpecError(
                "dcnet.start-epoch",
                f"{self.start}: {output.address} holds no training of these data and settings to go on with",
                field="--start_epoch",
                remedy="give the --save_path of that training, its data, --param_list, --metric, --niter and --seed",
            )
        work = self._prepared(same)
        if self._before() == {"fit": self._fit, "finished": True} and self._has_model():
            say(f"trained     {output.address} is finished: measuring it; another --save_path trains another")
            return Partition.load(output.address)
        partition = self._trained(learning, work)
        # not by way of a copy in `output.path`: an upload that fails would have taken the old model away
        partition.save(output.address)
        draw_measured(partition.header, output.path / PICTURE)
        storage.write_text(output.path / _TRAINING, json.dumps({"fit": self._fit, "finished": True}))
        return partition

    def _prepared(self, same: bool) -> Work:
        """The folder as this training needs it: nothing of another one, and what it goes on with."""
        path = self.output.path
        before = self._before()
        if not same or before is None or before.get("fit") != self._fit:
            if not self.start and (self._has_model() or self._epochs()):
                what = "it is replaced; its model stays until this one is trained"
                warn(f"{self.output.address} holds a training of other settings: {what}")
            state = self._state_at(self.start) if self.start else None
            self._forget(tuple(_epoch_name(epoch) for epoch in self._epochs() if epoch > self.start))
            work = Work(self.output, self._fixed, overwrite=True)
            self._forget(("work/fit.safetensors",))
            if state is not None:
                work.keep_fit(state)
            storage.write_text(path / _TRAINING, json.dumps({"fit": self._fit, "finished": False}))
            return work
        return Work(self.output, self._fixed, overwrite=True)

    def _trained(self, learning: Learning, work: Work) -> Partition:
        state = work.fit_state()
        steps = _Steps(self, epoch=state.epoch if state else 0)
        watch = Watch(after_step=steps.step, after_epoch=steps.epoch_done, loss_scale=self.loss_scale)
        try:
            return replace(learning, watch=watch).run(work)
        except RunError as error:
            if error.code != "partition.diverged":
                raise
            remedy = "give a lower one, --use_amp False, or look for vectors of extreme length"
            raise RunError("dcnet.diverged", error.message, field=f"--lr={self.spec.fit.lr:g}", remedy=remedy) from None

    def _has_model(self) -> bool:
        return storage.exists(self.output.address.child(HEADER))

    def _before(self) -> dict[str, Any] | None:
        file = self.output.path / _TRAINING
        if not file.exists():
            return None
        try:
            return json.loads(file.read_text())
        except ValueError:
            warn(f"{file}: cannot be read; the training begins anew, with the lists and neighbours that are there")
            return None

    def _is_same(self) -> bool:
        """Whether lists and neighbours that are there are of these data and settings."""
        file = self.output.path / "work/settings.json"
        return file.exists() and file.read_text() == json.dumps(self._fixed, sort_keys=True)

    def _epochs(self) -> list[int]:
        return sorted(int(each.stem.split("-")[1]) for each in (self.output.path / _EPOCHS).glob("epoch-*.safetensors"))

    def _forget(self, names: tuple[str, ...]) -> None:
        for name in names:
            (self.output.path / name).unlink(missing_ok=True)
            if self.output.is_remote and storage.exists(self.output.address.child(name)):
                storage.remove(self.output.address.child(name))

    def _state_at(self, epoch: int) -> FitState:
        """What was kept after an epoch; the optimizer's state is that of the last epoch alone."""
        path = self.output.path / _epoch_name(epoch)
        if not path.exists():
            known = ", ".join(map(str, self._epochs())) or "none"
            raise SpecError(
                "dcnet.start-epoch",
                f"{epoch}: {self.output.address}/{_EPOCHS} has no weights of it; it has: {known}",
                field="--start_epoch",
                remedy="give one of these",
            )
        lr = self.spec.fit.lr
        assert lr is not None, "the flag has a default"
        try:
            router, metadata = read_tensors(path)
            losses = json.loads(metadata["losses"])
        except UNREADABLE as error:
            what = f"is not whole: {error}"
            raise DataError("dcnet.epoch", what, field=str(path), remedy="give an earlier --start_epoch") from None
        last = Work(self.output, self._fixed, overwrite=True).fit_state()
        if last is not None and last.epoch == epoch:
            return FitState(epoch, lr, router, last.optimizer, losses)
        warn(f"--start_epoch {epoch}: the optimizer begins anew; its state is kept for the last epoch alone")
        return FitState(epoch, lr, router, {}, losses)

    def keep(self, state: FitState) -> None:
        """The network after an epoch."""
        path = self.output.path / _epoch_name(state.epoch)
        write_tensors(path, state.router, {"losses": json.dumps(state.losses)})
        self.output.sync()


class _Steps:
    """Counts steps and epochs for the log."""

    def __init__(self, training: Training, epoch: int) -> None:
        self._training, self._epoch, self._step = training, epoch, 0
        self._since = time.monotonic()

    def step(self, number: int, loss: float) -> None:
        """After each step."""
        if not self._step:
            self._since = time.monotonic()  # what came before the first step is no part of the epoch
        self._step += 1
        if self._step % self._training.log.interval == 0:
            self._training.log(f"epoch {self._epoch + 1} step {self._step} loss {loss:.5f}")

    def epoch_done(self, state: FitState) -> None:
        """After each epoch."""
        self._training.keep(state)
        took = time.monotonic() - self._since
        epochs = self._training.spec.fit.epochs
        done = f"epoch {state.epoch}/{epochs} loss {state.losses[-1]:.5f}"
        self._training.log(f"{done} steps {self._step} time {took:.1f} s")
        self._epoch, self._step, self._since = state.epoch, 0, time.monotonic()


def _epoch_name(epoch: int) -> str:
    return str(Path(_EPOCHS, f"epoch-{epoch:03}.safetensors"))
