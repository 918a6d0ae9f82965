"""What a partition's learning has done so far, kept beside its output, so that it goes on from there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinsight import storage
from kinsight.errors import SpecError
from kinsight.partition.fit import FitState

FOLDER = "work"
_SETTINGS = "settings.json"
_STORY = "fit"
"""Of the file's metadata: what is no tensor, in the same file, so that one is never without the other."""


class Work:
    """Named stages of tensors under `output/work`; for one set of settings and one set of vectors alone."""

    def __init__(
        self, output: storage.OutputDir, settings: dict[str, Any], *, overwrite: bool, folder: str = FOLDER
    ) -> None:
        self.output, self.folder = output, output.path / folder
        output.pull(lambda name: name.startswith(f"{folder}/"))
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
        path = self._path(name)
        if path.exists():
            return load_file(path)
        made = {name: each.detach().cpu() for name, each in make().items()}  # where those that were kept would be
        self._write(path, made)
        return made

    def fit_state(self) -> FitState | None:
        """Where the router's training stood."""
        path = self._path("fit")
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
            story = json.loads(file.metadata()[_STORY])
        router = {name.removeprefix("router."): each for name, each in tensors.items() if name.startswith("router.")}
        state: dict[int, dict[str, Tensor]] = {}
        for name, each in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = each
        optimizer = {"state": state, "param_groups": story["groups"]} if state else {}
        return FitState(story["epoch"], story["lr"], router, optimizer, story["losses"])

    def keep_fit(self, state: FitState) -> None:
        """Remember it."""
        tensors = {f"router.{name}": each for name, each in state.router.items()}
        for number, values in state.optimizer.get("state", {}).items():
            tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(each) for key, each in values.items()}
        groups = state.optimizer.get("param_groups", [])
        story = {"epoch": state.epoch, "lr": state.lr, "losses": state.losses, "groups": groups}
        self._write(self._path("fit"), tensors, {_STORY: json.dumps(story)})

    def clear(self) -> None:
        """Forget everything."""
        storage.remove_tree(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _write(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
        aside = path.with_suffix(".aside")
        with storage.local_errors(aside):
            save_file({name: each.detach().cpu().contiguous() for name, each in tensors.items()}, aside, metadata)
            aside.replace(path)
