"""What a partition's learning has done so far, kept beside its output, so that it goes on from there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kinsight import storage
from kinsight.errors import SpecError
from kinsight.partition.fit import FitState
from kinsight.progress import warn

FOLDER = "work"
_SETTINGS = "settings.json"
_STORY = "fit"
"""Of the file's metadata: what is no tensor, in the same file, so that one is never without the other."""
UNREADABLE = (SafetensorError, OSError, KeyError, TypeError, ValueError)
"""What a damaged file raises."""


class Work:
    """Named stages of tensors under `output/work`; for one set of settings and one set of vectors alone.

    A file that cannot be read counts as not there, and this is said: what it held is made again.
    """

    def __init__(
        self, output: storage.OutputDir, settings: dict[str, Any], *, overwrite: bool, folder: str = FOLDER
    ) -> None:
        self.output, self.folder = output, output.path / folder
        output.pull(lambda name: name.startswith(f"{folder}/"))
        storage.remove_left_aside(self.folder)
        text = json.dumps(settings, sort_keys=True)
        file = self.folder / _SETTINGS
        if file.exists() and file.read_text() != text:
            if not overwrite:
                raise SpecError(
                    "partition.other-settings",
                    "holds the unfinished learning of a partition with other settings or vectors",
                    field=f"output={output.address}",
                    remedy="choose another output, or --overwrite",
                )
            self.clear()
        if not file.exists():
            storage.write_text(file, text)

    def stage(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of a stage: those kept, or those that `make` gives, kept from now on."""
        kept = self._kept(name)
        if kept is not None:
            return kept
        made = {name: each.detach().cpu() for name, each in make().items()}  # where those that were kept would be
        write_tensors(self._path(name), made)
        storage.remove(self._path(_begun(name)))
        self.output.sync()  # of a remote output: a process that is killed leaves no more than this
        return made

    def begun(self, stage: str) -> dict[str, Tensor] | None:
        """What was kept of a stage under way."""
        return self._kept(_begun(stage))

    def keep_begun(self, stage: str, tensors: dict[str, Tensor]) -> None:
        """Remember it, until the stage is done."""
        write_tensors(self._path(_begun(stage)), tensors)

    def fit_state(self) -> FitState | None:
        """Where the router's training stood."""
        path = self._path("fit")
        if not path.exists():
            return None
        try:
            tensors, metadata = read_tensors(path)
            story = json.loads(metadata[_STORY])
            router = {
                name.removeprefix("router."): each for name, each in tensors.items() if name.startswith("router.")
            }
            state: dict[int, dict[str, Tensor]] = {}
            for name, each in tensors.items():
                if name.startswith("optimizer."):
                    _, number, key = name.split(".", 2)
                    state.setdefault(int(number), {})[key] = each
            optimizer = {"state": state, "param_groups": story["groups"]} if state else {}
            return FitState(story["epoch"], story["lr"], router, optimizer, story["losses"])
        except UNREADABLE as error:
            _say_damaged(path, error)
            return None

    def keep_fit(self, state: FitState) -> None:
        """Remember it."""
        tensors = {f"router.{name}": each for name, each in state.router.items()}
        for number, values in state.optimizer.get("state", {}).items():
            tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(each) for key, each in values.items()}
        groups = state.optimizer.get("param_groups", [])
        story = {"epoch": state.epoch, "lr": state.lr, "losses": state.losses, "groups": groups}
        write_tensors(self._path("fit"), tensors, {_STORY: json.dumps(story)})
        self.output.sync()

    def clear(self) -> None:
        """Forget everything."""
        storage.remove_tree(self.folder)

    def _kept(self, name: str) -> dict[str, Tensor] | None:
        path = self._path(name)
        if not path.exists():
            return None
        try:
            return read_tensors(path)[0]
        except UNREADABLE as error:
            _say_damaged(path, error)
            return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """The file holds them afterwards, or what it held before. Raises StorageError."""
    plain = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    storage.write_bytes(path, save(plain, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises one of `UNREADABLE`."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        return tensors, file.metadata() or {}


def _begun(stage: str) -> str:
    return f"{stage}-begun"


def _say_damaged(path: Path, error: Exception) -> None:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    warn(f"{path}: cannot be read ({line}); what it held is made again")
