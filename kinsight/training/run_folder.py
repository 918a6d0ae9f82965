"""The run folder: what `train` writes, and whether it may write there.

spec.yaml        the resolved settings
metrics.jsonl    one JSON object for each logged step and each validation
events.jsonl     progress, for programs
tensorboard/     the same numbers for TensorBoard
checkpoints/     see checkpoint.py
best/            model bundle of the best validation so far
bundle/          the model bundle, at the end
training.png     loss, learning rate and validation over steps
run.json         written last: the run is finished
"""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from kinsight import storage
from kinsight.errors import DataError, SpecError
from kinsight.parallel.collectives import world_size
from kinsight.parallel.groups import barrier, broadcast_text, is_main
from kinsight.specs.load import as_tree, as_yaml
from kinsight.specs.train import TrainSpec

FORMAT = "kinsight-run"
VERSION = 1
HEADER = "run.json"
SPEC = "spec.yaml"
_OURS = (SPEC, HEADER, "metrics.jsonl", "events.jsonl", "tensorboard", "checkpoints", "best", "bundle", "training.png")
# What may differ between a run and its continuation: where it computes, not what.
_MACHINE = ("output", "nproc", "device", "data.workers", "data.cache", "checkpoint.")


class RunFolder:
    """A run's output: `path` is local on every rank; the main rank mirrors it to where it belongs."""

    def __init__(self, spec: TrainSpec, *, overwrite: bool) -> None:
        """Claim `spec.output`, on every rank.

        Raises SpecError when it holds a finished run or one of other settings (naming the fields), StorageError when
        it cannot be written. `resumed` tells whether an unfinished run of the same settings was found.
        """
        self.spec = spec
        self._output = storage.OutputDir(spec.output) if is_main() else None
        self.resumed = False
        if self._output is not None:
            self.resumed = self._claim(self._output, overwrite)
        state = json.loads(
            broadcast_text(json.dumps([str(self._output.path), self.resumed]) if self._output is not None else "")
        )
        self.path = Path(state[0])
        self.resumed = state[1]
        if not self.path.is_dir():
            raise SpecError(
                "run.not-shared",
                f"{self.path} is not visible from every machine",
                field=f"output={spec.output}",
                remedy="with several machines, give an output on a file system they share",
            )

    def _claim(self, output: "storage.OutputDir", overwrite: bool) -> bool:
        output.check_writable()
        storage.make_directory(output.path)
        output.pull(lambda relative: relative in (SPEC, HEADER))
        before, finished = _read_spec(output.path), (output.path / HEADER).exists()
        if overwrite:
            self._clear(output)
            before, finished = None, False
        if before is not None:
            self._refuse_if_other(before, finished)
            output.pull(lambda relative: not relative.startswith("tensorboard/"))
        return before is not None

    def _refuse_if_other(self, before: dict[str, Any], finished: bool) -> None:
        differing = differing_fields(before, as_tree(self.spec))
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
            path = output.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if output.is_remote:
                storage.remove_tree(output.address.child(name))

    def begin(self) -> None:
        """Store the settings, once everything that can be checked has been: a refused run leaves nothing in the way."""
        if self._output is not None and not self.resumed:
            storage.write_bytes(str(self.path / SPEC), as_yaml(self.spec).encode())
            self._output.sync()

    def sync(self) -> None:
        """Mirror what changed to a remote output; nothing on a local one."""
        if self._output is not None:
            self._output.sync()

    def finish(self, summary: dict[str, Any]) -> None:
        """Write run.json, last of all, on the main rank."""
        if self._output is not None:
            header = {"format": FORMAT, "version": VERSION, **summary}
            storage.write_bytes(str(self.path / HEADER), json.dumps(header, indent=1).encode())
            self._output.publish(HEADER)

    def close(self) -> None:
        """Mirror once more and remove the scratch folder of a remote output."""
        if self._output is not None:
            self._output.__exit__(None, None, None)
        if world_size() > 1:
            barrier()


def _read_spec(path: Path) -> dict[str, Any] | None:
    file = path / SPEC
    if not file.exists():
        return None
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        tree = None
    if not isinstance(tree, dict):
        raise DataError("run.spec", "is not a run's settings", field=str(file), remedy="choose another output")
    return tree


def differing_fields(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`name: before → now` for every setting that makes two specs different runs."""
    old, new = _flat(before), _flat(now)
    names = [name for name in {**old, **new} if not name.startswith(_MACHINE)]
    return [f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
