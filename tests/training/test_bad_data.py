"""Images, labels and settings that do not go together: each is told before, or as soon as, it does harm."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import Settings, finish_group, flags, spec_of, start_group

from kinsight import train
from kinsight.errors import DataError, KinsightError, SpecError

PAIRS = {"loss": {"kind": "supcon"}, "sampler": {"kind": "per-class", "samples_per_class": 4}}


@pytest.fixture
def spec(settings: Settings) -> dict[str, Any]:
    return spec_of(settings) | {"steps": 4}


@pytest.fixture
def own(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> list[str]:
    """Lines of a list of this test's own; `listed` writes them."""
    shutil.copytree(image_folder / "train", tmp_path / "images")
    spec["data"]["train"]["path"] = str(tmp_path / "images/list.txt")
    return (tmp_path / "images/list.txt").read_text().splitlines()


def listed(lines: list[str], spec: dict[str, Any]) -> dict[str, Any]:
    Path(spec["data"]["train"]["path"]).write_text("\n".join(lines) + "\n")
    return spec


def refused(spec: dict[str, Any], type_: type[KinsightError], code: str) -> str:
    with pytest.raises(type_) as caught:
        train(spec)
    assert caught.value.code == code, caught.value
    assert caught.value.remedy
    assert not Path(spec["output"], "spec.yaml").exists(), "a refused run must not take the output"
    return str(caught.value)


def test_a_batch_larger_than_the_set(spec: dict[str, Any]) -> None:
    assert "62" in refused(spec | {"batch": {"size": 63}}, DataError, "data.batch-too-large")


def test_one_class(own: list[str], spec: dict[str, Any]) -> None:
    lines = [f"{line.split()[0]} 0" for line in own]
    text = refused(listed(lines, spec), DataError, "data.one-class")
    assert "images of 1 class" in text
    spec["data"]["num_classes"] = 5
    refused(spec, DataError, "data.one-class")


def test_too_few_classes_named(spec: dict[str, Any]) -> None:
    spec["data"]["num_classes"] = 7
    with pytest.raises(DataError) as caught:
        train(spec)
    assert "7" in str(caught.value) and "num_classes" in str(caught.value)


def test_classes_of_one_image_with_pairs(
    own: list[str], spec: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """They are left out, which is said once; without a pair anywhere there is nothing to learn."""
    lines = [*own, "0-0.png 8", "0-1.png 9"]
    train(listed(lines, spec) | PAIRS)
    text = capsys.readouterr().err.replace("\n", " ")
    assert text.count("2 of 10 classes have a single image") == 1
    assert "warning: 2 of 10" in text and "UserWarning" not in text
    single = [f"{line.split()[0]} {number}" for number, line in enumerate(own)]
    spec["output"] += "-2"
    refused(listed(single, spec) | {"loss": {"kind": "supcon"}}, DataError, "data.no-pairs")


def test_validation_without_a_pair(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("0-0.png a\n1-0.png b\n")
    spec["data"]["validation"] = {"path": str(tmp_path / "list.txt"), "root": str(image_folder / "validation")}
    refused(spec, DataError, "data.no-pairs")


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_broken_images_are_named(cache: str, own: list[str], spec: dict[str, Any]) -> None:
    for name in ("0-3.png", "5-1.png"):
        Path(spec["data"]["train"]["path"]).with_name(name).write_bytes(b"\x89PNG no more")
    spec["data"] |= {"cache": cache, "max_broken": 0.05}
    train(spec)
    summary = json.loads(Path(spec["output"], "run.json").read_text())
    assert [Path(one["image"]).name for one in summary["broken_images"]] == ["0-3.png", "5-1.png"]
    assert all(one["reason"] for one in summary["broken_images"])
    assert summary["position"]["images"] == 60


def test_broken_images_over_the_limit(own: list[str], spec: dict[str, Any]) -> None:
    for name in ("0-3.png", "5-1.png"):
        Path(spec["data"]["train"]["path"]).with_name(name).write_bytes(b"")
    spec["data"]["max_broken"] = 0.02
    with pytest.raises(DataError) as caught:
        train(spec)
    assert caught.value.code == "data.too-many-broken"
    assert "0-3.png" in caught.value.message and "5-1.png" in caught.value.message


def test_broken_images_found_before_an_interruption(own: list[str], spec: dict[str, Any]) -> None:
    """A run that goes on after its last step still names what it met before."""
    Path(spec["data"]["train"]["path"]).with_name("0-3.png").write_bytes(b"")
    spec["data"]["max_broken"] = 0.05
    train(spec)
    summary = Path(spec["output"], "run.json").read_text()
    Path(spec["output"], "run.json").unlink()
    train(spec)
    again = json.loads(Path(spec["output"], "run.json").read_text())
    assert again["broken_images"] == json.loads(summary)["broken_images"] != []


def test_a_batch_that_broken_images_leave_alone(own: list[str], spec: dict[str, Any]) -> None:
    """One image cannot be normalised over a batch: the step is passed over."""
    for number in range(7):
        Path(spec["data"]["train"]["path"]).with_name(f"{number}-0.png").write_bytes(b"")
    lines = [line for line in own if line.split()[0].endswith("-0.png")]
    assert len(lines) == 8
    spec["data"]["max_broken"] = 1
    spec["model"]["neck"] = {"kind": "bnneck"}
    result = train(listed(lines, spec) | {"batch": {"size": 8}})
    assert result.steps == 4


def test_batches_of_one_and_batch_norm(spec: dict[str, Any]) -> None:
    spec["model"]["neck"] = {"kind": "bnneck"}
    refused(spec | {"batch": {"size": 1}}, SpecError, "run.batch-of-one")
    refused(spec | {"batch": {"size": 16, "accumulate": 16}}, SpecError, "run.batch-of-one")
    spec["model"]["neck"] = {"kind": "linear"}
    assert train(spec | {"batch": {"size": 1}}).steps == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(spec: dict[str, Any]) -> None:
    refused(spec | {"device": "cuda"}, SpecError, "run.no-device")
    refused(spec | {"precision": "fp16"}, SpecError, "run.precision")


def test_more_processes_than_images_in_a_batch(settings: Settings, tmp_path: Path) -> None:
    runs = start_group(["train", *flags(settings | {"batch.size": 2})], 3, tmp_path / "log")
    assert [run.wait() for run in runs] == [2, 2, 2]
    assert "a batch of 2 images cannot be shared by 3 processes" in runs[0].text
    assert "Traceback" not in runs[0].text
    runs = start_group(["train", *flags(settings | {"nproc": 4})], 2, tmp_path / "log")
    assert [run.wait() for run in runs] == [2, 2]
    assert "the launcher has started 2 processes" in runs[0].text


def test_broken_images_of_all_processes_are_named(own: list[str], settings: Settings, tmp_path: Path) -> None:
    names = [f"{label}-2.png" for label in range(8)]
    for name in names:
        (tmp_path / "images" / name).write_bytes(b"")
    base = settings | {"data.train.path": str(tmp_path / "images/list.txt"), "data.max-broken": 0.2, "steps": 4}
    finish_group(["train", *flags(base)], 2, tmp_path / "log")
    summary = json.loads(Path(base["output"], "run.json").read_text())
    assert sorted(Path(one["image"]).name for one in summary["broken_images"]) == names
    assert summary["position"]["images"] == 62 - 8


def test_batches_without_pairs_are_told(spec: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A loss over pairs with batches by chance: an error where none meet, a warning where few do."""
    text = refused(spec | {"loss": {"kind": "supcon"}, "batch": {"size": 1}}, SpecError, "loss.no-pairs")
    assert "per-class" in text
    train(
        spec | {"loss": {"kind": "supcon"}, "batch": {"size": 4}, "model": spec["model"] | {"neck": {"kind": "linear"}}}
    )
    assert "meet another of their kind" in capsys.readouterr().err


def test_classes_without_images_are_told(spec: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    spec["data"]["num_classes"] = 20
    train(spec)
    assert "12 of 20 classes have no image" in capsys.readouterr().err
