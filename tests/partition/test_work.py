"""What a training goes on from, killed while it is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kinsight import storage
from kinsight.partition import work
from kinsight.partition.fit import FitState
from kinsight.partition.work import Work


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Work]:
    with storage.OutputDir(tmp_path / "output") as output:
        yield Work(output, {"lists": 4}, overwrite=False)


def state(epoch: int) -> FitState:
    weights = {"weight": torch.full((2, 3), float(epoch))}
    optimizer = {"state": {0: {"step": torch.tensor(float(epoch))}}, "param_groups": [{"lr": 0.5, "params": [0]}]}
    return FitState(epoch, 0.5 / epoch, weights, optimizer, [1.0 / each for each in range(1, epoch + 1)])


def test_it_comes_back(kept: Work) -> None:
    assert kept.fit_state() is None
    kept.keep_fit(state(3))
    found = kept.fit_state()
    assert found is not None and (found.epoch, found.lr, found.losses) == (3, 0.5 / 3, [1.0, 0.5, 1 / 3])
    assert torch.equal(found.router["weight"], state(3).router["weight"])
    assert found.optimizer["param_groups"] == [{"lr": 0.5, "params": [0]}]
    assert found.optimizer["state"][0]["step"] == 3


def test_killed_after_any_write_of_the_next_it_is_the_last_or_the_next(
    kept: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each state of the folder that a kill could leave holds a training to go on from."""
    kept.keep_fit(state(1))
    seen, writing = [], work.save_file

    def look() -> None:
        copy = tmp_path / f"moment-{len(seen)}"
        shutil.copytree(kept.output.path, copy)
        with storage.OutputDir(copy) as output:
            found = Work(output, {"lists": 4}, overwrite=False).fit_state()
        seen.append(found.epoch if found is not None else None)

    def write_and_look(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None) -> None:
        look()
        writing(tensors, path, metadata)
        look()

    moved = Path.replace

    def move_and_look(self: Path, target: Path) -> Path:
        found = moved(self, target)
        look()
        return found

    monkeypatch.setattr(work, "save_file", write_and_look)
    monkeypatch.setattr(Path, "replace", move_and_look)
    kept.keep_fit(state(2))
    assert seen == [1, 1, 2]
