"""The run folder: what `train` writes, and whether it may write there.

spec.yaml        the resolved settings
metrics.jsonl    one JSON object for each logged step and each validation
events.jsonl     progress, for programs
tensorboard/     the same numbers for TensorBoard
checkpoints/     see checkpoint.py
best/            model bundle of the best validation so far
bundle/          the model bundle, at the end
report/          index.html: curves, and how well the best model does on the validation images
training.png     loss, learning rate and validation over steps
run.json         written last: the run is finished
"""

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from kinsight import storage
from kinsight.errors import DataError, InterruptedRun, RunError, SpecError
from kinsight.evaluation.settings import printed_yaml
from kinsight.parallel.groups import barrier, broadcast_text, is_main
from kinsight.specs.train import TrainSpec
from kinsight.storage.local import remove_local
from kinsight.training import checkpoint
from kinsight.training.checkpoint_files import copy_folder
from kinsight.training.run_settings import other_settings, read_settings

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

FORMAT = "kinsight-run"
VERSION = 1
HEADER = "run.json"
SPEC = "spec.yaml"
CHECKPOINTS = "checkpoints"
_OURS = (
    SPEC, HEADER, "metrics.jsonl", "events.jsonl", "tensorboard", "checkpoints", "best", "bundle", "training.png",
    "report",
)  # fmt: skip


class RunFolder:
    """A run's output: `path` is local on every rank; the main rank mirrors it to where it belongs."""

    def __init__(self, spec: TrainSpec, *, overwrite: bool) -> None:
        """Look at `spec.output`, on every rank; nothing is changed there before `begin`.

        Raises SpecError when it holds a finished run or one of other settings (naming the fields), DataError when its
        settings cannot be read, StorageError when it cannot be written.
        """
        self.spec = spec
        self._overwrite = overwrite
        self._output = storage.OutputDir(spec.output) if is_main() else None
        self._lock: IO[bytes] | None = None
        self._resumed = False
        if self._output is not None:
            try:
                self._resumed = self._look(self._output)
            except BaseException:
                self._output.__exit__(*sys.exc_info())
                raise
        self.path = Path(broadcast_text(str(self._output.path) if self._output is not None else ""))

    @property
    def is_new(self) -> bool:
        """Whether nothing is gone on with there (known on the main rank)."""
        return not self._resumed

    @property
    def best(self) -> Path:
        """Where the best model's bundle is."""
        return self.path / "best"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINTS

    def _look(self, output: "storage.OutputDir") -> bool:
        """Whether an unfinished run of the same settings is there."""
        output.check_writable()
        if self._overwrite:
            return False
        output.pull(lambda relative: relative in (SPEC, HEADER))
        before, finished = read_settings(output.path / SPEC), (output.path / HEADER).exists()
        if before is not None:
            self._refuse_if_other(before, finished)
        elif storage.exists(output.address.child(CHECKPOINTS)):
            raise DataError(
                "run.no-spec",
                f"holds checkpoints but no {SPEC}, so nobody knows which run they belong to",
                field=f"output={self.spec.output}",
                remedy=f"bring the {SPEC} back, choose another output, or --overwrite to train anew",
            )
        return before is not None

    def begin(self) -> None:
        """Take the folder: bring what a resume needs, or write the settings into it; every rank calls it.

        Raises RunError when another process trains into it, StorageError.
        """
        if self._output is not None:
            output = self._output
            storage.make_directory(output.path)
            self._take(output.path / SPEC)
            if self._resumed:
                output.pull(lambda relative: not relative.startswith("tensorboard/"))
                checkpoint.remove_incomplete(self.checkpoints)
            else:
                if self._overwrite:
                    self._clear(output)
                storage.write_bytes(str(output.path / SPEC), printed_yaml(self.spec).encode())
                self._take(output.path / SPEC)
                output.sync()
        barrier()
        if not self.path.is_dir():
            raise SpecError(
                "run.not-shared",
                f"{self.path} is not visible from every machine",
                field=f"output={self.spec.output}",
                remedy="with several machines, give an output on a file system they share",
            )

    def _take(self, settings: Path) -> None:
        """Hold a lock on the settings, where there are some already."""
        self._release()
        if settings.exists():
            self._lock = _locked(settings)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _refuse_if_other(self, before: dict[str, Any], finished: bool) -> None:
        differing = other_settings(before, self.spec)
        if differing:
            raise SpecError(
                "run.other-settings",
                f"holds a run of other settings: {'; '.join(differing)}",
                field=f"output={self.spec.output}",
                remedy="choose another output, or --overwrite to replace that run",
            )
        if finished:
            raise SpecError(
                "run.finished",
                "holds a finished run of these settings",
                field=f"output={self.spec.output}",
                remedy="choose another output, or --overwrite to train anew",
            )

    def _clear(self, output: "storage.OutputDir") -> None:
        for name in _OURS:
            remove_local(output.path / name)
            if output.is_remote:
                storage.remove_tree(output.address.child(name))

    def sync(self) -> None:
        """Mirror what changed to a remote output; nothing on a local one."""
        if self._output is not None:
            self._output.sync()

    def finish(self, summary: dict[str, Any]) -> None:
        """Copy the best model to `bundle/`, then write run.json, last of all, on the main rank."""
        if self._output is not None:
            with storage.local_errors(self.path):
                copy_folder(self.best, self.path / "bundle")
            header = {"format": FORMAT, "version": VERSION, **summary}
            storage.write_bytes(str(self.path / HEADER), json.dumps(header, indent=1).encode())
            self._output.publish(HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Mirror once more and remove the scratch folder of a remote output."""
        if self._output is not None:
            self._output.__exit__(kind, error, traceback)
        self._release()
        # Where all ranks end alike, none may be gone while the main one still writes: the launcher would end that too.
        if error is None or isinstance(error, InterruptedRun):
            barrier()


def _locked(file: Path) -> IO[bytes] | None:
    """A lock on `file` that goes with this process, not with those forked from it; None where there are no locks."""
    if fcntl is None:
        return None
    with storage.local_errors(file):
        stream = file.open("r+b")
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise RunError(
            "run.busy",
            "another process is training into this folder",
            field=str(file.parent),
            remedy="wait for it to end, or choose another output",
        ) from None
    except OSError:  # some network file systems have no locks
        stream.close()
        return None
    return stream
