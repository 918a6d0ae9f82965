"""Outputs that cannot be written, are taken, are damaged or full; and what a finished one holds."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from train_runs import Settings, checkpoints, finish, flags, outcome, rows, spec_of, start

import kinsight
from kinsight import train
from kinsight.errors import DataError, KinsightError, RunError, SpecError, StorageError
from kinsight.storage.local import ASIDE_PREFIX
from kinsight.training.run_settings import other_settings

EACH_STEP = {"every_minutes": 1e-9, "keep": 100}


@pytest.fixture
def spec(settings: Settings) -> dict[str, Any]:
    return spec_of(settings) | {"steps": 6, "checkpoint": EACH_STEP}


def unfinished(spec: dict[str, Any], last: int) -> Path:
    """A run whose process died after step `last`."""
    output = Path(spec["output"])
    train(spec)
    (output / "run.json").unlink()
    for path in output.glob("checkpoints/step-*"):
        if int(path.name.removeprefix("step-")) > last:
            shutil.rmtree(path)
    return output


def refused(spec: dict[str, Any], type_: type[KinsightError], code: str, **options: bool) -> KinsightError:
    with pytest.raises(type_) as caught:
        train(spec, **options)
    assert caught.value.code == code, caught.value
    return caught.value


def test_what_a_run_leaves(spec: dict[str, Any], image_folder: Path) -> None:
    spec["data"]["validation"] = {"path": str(image_folder / "validation/list.txt")}
    spec |= {"steps": 25}
    result = train(spec)
    output = Path(spec["output"])
    written = yaml.safe_load((output / "spec.yaml").read_text())
    assert other_settings(written, kinsight.specs.train.TrainSpec.model_validate(spec)) == []
    other = kinsight.specs.train.TrainSpec.model_validate(spec | {"optimizer": {"kind": "adamw"}, "seed": 5})
    told = other_settings(written, other)
    both = ["optimizer.lr was 0.03, now 0.001", "optimizer.weight_decay was 0.0001, now 0.01"]  # what both kinds have
    assert sorted(told) == ["optimizer.kind was 'sgd', now 'adamw'", *both, "seed was 0, now 5"]
    found = rows(output)
    assert [row["step"] for row in found if row["kind"] == "train"] == [10, 20, 25]
    assert [row["step"] for row in found if row["kind"] == "validation"] == [4, 8, 12, 16, 20, 24, 25]
    assert {"lr", "loss", "am-softmax.loss", "am-softmax.accuracy"} <= found[-2].keys()
    assert {"recall@1", "map@r", "r_precision"} <= found[0].keys()
    board = EventAccumulator(str(output / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [10, 20, 25]
    assert [event.step for event in board.Scalars("validation/recall@1")] == [4, 8, 12, 16, 20, 24, 25]
    events = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "done" and events[-1]["done"] == 25
    assert (output / "training.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((output / "run.json").read_text())
    assert summary["position"]["images"] == 6 * 62 + 16
    bundle = kinsight.load(result.bundle)
    assert bundle is not None
    assert not list(output.rglob(f"{ASIDE_PREFIX}*"))


@pytest.mark.parametrize("place", ["file/run", "/proc/run"])
def test_not_writable(place: str, spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(
        spec | {"output": str(tmp_path / place)},
        StorageError,
        "storage.not-a-directory" if place[0] == "f" else "storage.not-found",
    )


def test_finished_other_and_overwritten(spec: dict[str, Any]) -> None:
    output = Path(spec["output"])
    train(spec)
    first = (output / "bundle/model.safetensors").read_bytes()
    refused(spec, SpecError, "run.finished")
    other = spec | {"seed": 1, "optimizer": {"kind": "adamw", "lr": 0.5}}
    error = refused(other, SpecError, "run.other-settings")
    for part in ("seed was 0, now 1", "optimizer.kind was 'sgd', now 'adamw'", "optimizer.lr was 0.03, now 0.5"):
        assert part in error.message
    assert "steps" not in error.message and "--overwrite" in error.remedy
    assert (output / "bundle/model.safetensors").read_bytes() == first
    (output / "notes.txt").write_text("mine")
    train(other, overwrite=True)
    assert (output / "bundle/model.safetensors").read_bytes() != first
    assert [row["step"] for row in rows(output)] == [6]
    assert (output / "notes.txt").read_text() == "mine"


def test_a_refused_run_changes_nothing(spec: dict[str, Any]) -> None:
    output = Path(spec["output"])
    refused(spec | {"batch": {"size": 1000}}, DataError, "data.batch-too-large")
    assert not output.exists()
    train(spec)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    refused(spec | {"batch": {"size": 1000}}, DataError, "data.batch-too-large", overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_settings_of_the_machine_may_change(spec: dict[str, Any], tmp_path: Path) -> None:
    output = unfinished(spec, 3)
    elsewhere = tmp_path / "moved"
    output.rename(elsewhere)
    spec["data"] |= {"workers": 1, "cache": "memory"}
    train(spec | {"output": str(elsewhere), "checkpoint": {"every_epochs": 3}})


def test_settings_written_before_a_field_existed(spec: dict[str, Any]) -> None:
    output = unfinished(spec, 3)
    written = yaml.safe_load((output / "spec.yaml").read_text())
    del written["ema"], written["data"]["crop"]
    written["data"]["crop"] = 1.0
    (output / "spec.yaml").write_text(yaml.safe_dump(written))
    assert train(spec).steps == 6


@pytest.mark.parametrize("text", ["[unclosed", "- a\n- b\n", ""])
def test_damaged_settings(text: str, spec: dict[str, Any]) -> None:
    output = unfinished(spec, 3)
    (output / "spec.yaml").write_text(text)
    error = refused(spec, DataError, "run.spec")
    assert error.field == str(output / "spec.yaml") and "--overwrite" in error.remedy
    train(spec, overwrite=True)


def test_checkpoints_without_settings(spec: dict[str, Any]) -> None:
    output = unfinished(spec, 3)
    (output / "spec.yaml").unlink()
    assert "--overwrite" in refused(spec, DataError, "run.no-spec").remedy
    assert checkpoints(output) == ["step-00000001", "step-00000002", "step-00000003"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("*.safetensors", lambda data: data[:-100]),
        ("*.safetensors", lambda data: data[:-4] + bytes(b ^ 1 for b in data[-4:])),
        ("rank-00000.npz", lambda data: b""),
        ("checkpoint.json", lambda data: data[: len(data) // 2]),
        ("checkpoint.json", lambda data: b"[]"),
    ],
    ids=["cut", "altered", "emptied", "half-a-header", "no-header"],
)
def test_damaged_checkpoints(name: str, damage: Any, spec: dict[str, Any]) -> None:
    output = unfinished(spec, 3)
    reference = (output / "bundle/model.safetensors").read_bytes()
    (file,) = (output / "checkpoints/step-00000003").glob(name)
    file.write_bytes(damage(file.read_bytes()))
    error = refused(spec, DataError, "checkpoint.altered")
    assert error.field == str(file)
    assert f"remove the folder {file.parent}" in error.remedy
    shutil.rmtree(file.parent)  # as the remedy says
    train(spec)
    assert (output / "bundle/model.safetensors").read_bytes() == reference


def test_missing_and_foreign_checkpoint_files(spec: dict[str, Any]) -> None:
    output = unfinished(spec, 3)
    file = output / "checkpoints/step-00000003/rank-00000.npz"
    file.unlink()
    assert "is missing" in refused(spec, DataError, "checkpoint.altered").message
    header = output / "checkpoints/step-00000003/checkpoint.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"version": 99}))
    assert "99" in refused(spec, DataError, "checkpoint.version").message


def test_half_written_checkpoints_are_ignored_and_removed(spec: dict[str, Any]) -> None:
    output = unfinished(spec, 3)
    folder = output / "checkpoints"
    shutil.copytree(folder / "step-00000003", folder / "step-00000005")
    (folder / "step-00000005/checkpoint.json").unlink()
    shutil.copytree(folder / "step-00000003", folder / f"{ASIDE_PREFIX}step-00000004")
    train(spec | {"checkpoint": {"every_epochs": 100, "keep": 100}})
    assert checkpoints(output) == [f"step-{step:08d}" for step in (1, 2, 3, 6)]
    assert len(list(folder.iterdir())) == 4


def test_only_the_newest_are_kept(spec: dict[str, Any]) -> None:
    train(spec | {"checkpoint": EACH_STEP | {"keep": 2}})
    assert checkpoints(Path(spec["output"])) == ["step-00000005", "step-00000006"]


def test_a_list_that_has_changed(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder / "train", tmp_path / "images")
    listed = tmp_path / "images/list.txt"
    spec["data"]["train"]["path"] = str(listed)
    output = unfinished(spec, 3)
    text = listed.read_text()
    listed.write_text("".join(text.splitlines(keepends=True)[1:]))
    error = refused(spec, DataError, "checkpoint.other-data")
    assert "training images" in error.message
    listed.write_text(text)
    train(spec)
    assert checkpoints(output)[-1] == "step-00000006"


def test_one_training_at_a_time(settings: Settings, tmp_path: Path) -> None:
    words = ["train", *flags(settings | {"steps": 100000, "checkpoint.every-minutes": 1e-6})]
    run = start(words, tmp_path / "log")
    while not checkpoints(Path(settings["output"])):
        assert run.process.is_alive(), run.text
    spec = spec_of(settings) | {"steps": 100000}
    assert "another process is training" in refused(spec, RunError, "run.busy").message
    refused(spec, RunError, "run.busy", overwrite=True)
    assert checkpoints(Path(settings["output"]))
    run.process.kill()
    run.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_full_during_a_checkpoint(
    small_disk: Path, settings: Settings, image_folder: Path, tmp_path: Path
) -> None:
    base = settings | {"steps": 10, "checkpoint.every-minutes": 1e-6, "checkpoint.keep": 100, "optimizer.kind": "adamw"}
    base["data.validation.path"] = str(image_folder / "validation/list.txt")
    words = ["train", *flags(base | {"output": str(small_disk / "run")})]
    text = finish(words, tmp_path / "log", code=1)
    assert "no space left on the device" in text and "free some space" in text
    assert "Traceback" not in text
    kept = checkpoints(small_disk / "run")
    assert kept and kept[-1] < "step-00000010"
    assert not list((small_disk / "run/checkpoints").glob(f"{ASIDE_PREFIX}*"))
    assert "no space left" in finish(words, tmp_path / "log", code=1)
    assert checkpoints(small_disk / "run")[: len(kept)] == kept

    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    finish(words, tmp_path / "log")
    finish(["train", *flags(base | {"output": str(tmp_path / "roomy")})], tmp_path / "log2")
    assert outcome(small_disk / "run") == outcome(tmp_path / "roomy")


def test_training_in_a_thread(spec: dict[str, Any]) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(train(spec)))
    thread.start()
    thread.join()
    assert results[0].steps == 6
    assert Path(results[0].bundle, "bundle.json").exists()
