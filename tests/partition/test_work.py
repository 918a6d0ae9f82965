"""What a learning goes on from: killed while it is written, without room, damaged."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kinsight import storage
from kinsight.errors import StorageError
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
    seen, flushed, moved = [], os.fsync, Path.replace

    def look() -> None:
        copy = tmp_path / f"moment-{len(seen)}"
        shutil.copytree(kept.output.path, copy)
        with storage.OutputDir(copy) as output:
            found = Work(output, {"lists": 4}, overwrite=False).fit_state()
        seen.append(found.epoch if found is not None else None)

    def flush_and_look(descriptor: int) -> None:
        flushed(descriptor)
        look()

    def move_and_look(self: Path, target: Path) -> Path:
        look()
        found = moved(self, target)
        look()
        return found

    monkeypatch.setattr(os, "fsync", flush_and_look)  # of the file, and then of the folder
    monkeypatch.setattr(Path, "replace", move_and_look)
    kept.keep_fit(state(2))
    assert seen == [1, 1, 2, 2]


def test_a_damaged_file_counts_as_not_there(kept: Work, capsys: pytest.CaptureFixture[str]) -> None:
    made: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"list": torch.arange(1000)}

    kept.stage("lists", make)
    kept.keep_begun("truth", {"row": torch.arange(1000)})
    kept.keep_fit(state(2))
    assert kept.stage("lists", make)["list"].tolist() == list(range(1000)) and len(made) == 1
    for name in ("lists", "truth-begun", "fit"):
        file = kept.folder / f"{name}.safetensors"
        for damage in (file.read_bytes()[:-100], b"", b"\xff" * 200):
            file.write_bytes(damage)
            if name == "lists":
                assert kept.stage("lists", make)["list"].tolist() == list(range(1000))
            else:
                assert (kept.begun("truth") if name == "truth-begun" else kept.fit_state()) is None
            assert f"{name}.safetensors: cannot be read" in capsys.readouterr().err
    assert len(made) == 4
    kept.keep_fit(state(1))
    assert kept.fit_state() is not None


def test_a_full_disk_leaves_what_was_there(kept: Work) -> None:
    kept.keep_fit(state(1))
    names = sorted(each.name for each in kept.folder.iterdir())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(StorageError) as stage:
            kept.stage("lists", lambda: {"list": torch.arange(100_000)})
        with pytest.raises(StorageError) as fit:
            kept.keep_fit(FitState(2, 0.5, {"weight": torch.zeros(300, 300)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert stage.value.code == fit.value.code == "storage.full"
    assert sorted(each.name for each in kept.folder.iterdir()) == names
    found = kept.fit_state()
    assert found is not None and found.epoch == 1


def test_what_was_under_way_goes_when_it_is_done(kept: Work) -> None:
    kept.keep_begun("truth", {"rows": torch.tensor(7)})
    begun = kept.begun("truth")
    assert begun is not None and int(begun["rows"]) == 7
    kept.stage("truth", lambda: {"near": torch.arange(3)})
    assert kept.begun("truth") is None and not list(kept.folder.glob("*begun*"))
