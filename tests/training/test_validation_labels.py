"""Labels of validation images against those of the training, a training that diverged, the warm-up of short ones."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinsight.errors import DataError, RunError
from kinsight.specs.optim import ConstantSchedule, CosineSchedule
from kinsight.training import train
from kinsight.training.record import read_rows
from kinsight.training.schedules import with_warmup

NAMES = ("ash", "birch", "cedar")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """{train,validation}.csv of one class an image, {train,validation}-labels.csv of a column a label."""
    folder = tmp_path_factory.mktemp("labels")
    random = np.random.default_rng(0)
    for part, each in (("train", 8), ("validation", 8)):
        rows = [(f"{part}-{number}.png", number % 3) for number in range(3 * each)]
        for name, label in rows:
            pixels = random.integers(60 * label, 60 * label + 120, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
        write(folder / f"{part}.csv", ["image", "label"], [[name, NAMES[label]] for name, label in rows])
        cells = [[name, *[int(label == other) for other in range(3)]] for name, label in rows]
        write(folder / f"{part}-labels.csv", ["image", *NAMES], cells)
    return folder


def write(file: Path, head: list[str], rows: list[list]) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])
    return file


def read(file: Path) -> list[list[str]]:
    with file.open() as stream:
        return list(csv.reader(stream))


def settings(train_list: Path, validation_list: Path, output: Path, task: str, **further: object) -> dict:
    columns = {"label_columns": ["*"]} if task == "multilabel" else {}
    sources = {"train": train_list, "validation": validation_list}
    data = {name: {"path": str(path), "format": "csv", **columns} for name, path in sources.items()}
    data |= {"image_size": 16, "crop": 1.0, "color": "gray", "augment": {"kind": "none"}, "workers": 0}
    spec = {"output": str(output), "task": task, "data": data, "epochs": 1, "batch": {"size": 12}, "report": None}
    spec |= {"model": {"backbone": "conv4", "pretrained": None}, "device": "cpu", "nproc": 1}
    return spec | further


def test_a_validation_label_that_was_never_learnt(folder: Path, tmp_path: Path) -> None:
    head, *rows = read(folder / "validation.csv")
    few = [row for row in read(folder / "train.csv")[1:] if row[1] != "cedar"]
    spec = settings(write(folder / "two.csv", head, few), folder / "validation.csv", tmp_path / "run", "classification")
    words = r"validation\.csv:4: label 'cedar' \(8 such rows\)(.|\n)*no training image has it(.|\n)*data\.num_classes"
    with pytest.raises(DataError, match=words):
        train(spec)
    spec["data"]["classes"] = ["ash", "birch"]
    with pytest.raises(DataError, match="add it to the class list"):
        train(spec)
    two = write(folder / "pair.csv", head, [[rows[0][0], "ash birch"], ["b.png", "[ash, birch]"]])
    with pytest.raises(DataError, match=r"pair\.csv:3: has 2 labels(.|\n)*task=multilabel"):
        train(settings(two, folder / "validation.csv", tmp_path / "run", "classification"))


def test_columns_that_one_side_lacks_are_told_by_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, *rows = read(folder / "train-labels.csv")
    bare = write(folder / "bare.csv", [*head, "yew"], [[*row, "0"] for row in rows])
    head, *rows = read(folder / "validation-labels.csv")
    other = write(folder / "other.csv", [head[0], "joker", *head[1:3]], [[row[0], "0", *row[1:3]] for row in rows])
    train(settings(bare, other, tmp_path / "run", "multilabel"))
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 4 classes have no image" in said and ": yew" in said
    assert "count as unknown, not as absent, and are in no figure: cedar, yew" in said
    assert said.count("joker") == 1
    assert "validation 24 images of which 2 of 4 labels are known, by map" in said
    told = json.loads((tmp_path / "run/run.json").read_text())["validation"]["metrics"]
    assert told["labels"] == 2


@pytest.mark.parametrize("task", ["classification", "multilabel", "metric"])
def test_a_training_that_diverged_says_so(task: str, folder: Path, tmp_path: Path) -> None:
    further = {"optimizer": {"kind": "sgd", "lr": 1e25}, "schedule": {"warmup_steps": 0}, "steps": 1, "epochs": None}
    further |= {"precision": "fp32"}
    ending = "-labels.csv" if task == "multilabel" else ".csv"
    lists = folder / f"train{ending}", folder / f"validation{ending}"
    with pytest.raises(RunError, match="validation after step 1: the model's outputs are not finite") as caught:
        train(settings(*lists, tmp_path / "run", task, **further))
    remedy = caught.value.remedy or ""
    assert remedy.startswith("lower optimizer.lr, set clip_norm") and "precision" not in remedy
    clipped = settings(*lists, tmp_path / "bf16", task, **further | {"precision": "bf16", "clip_norm": 1e30})
    with pytest.raises(RunError, match="validation after step 1") as caught:
        train(clipped)
    remedy = caught.value.remedy or ""
    assert "set precision to fp32" in remedy and "clip_norm" not in remedy


def test_a_warm_up_nobody_set_fits_the_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps, expected in ((1, 0), (9, 0), (40, 4), (1000, 100), (5000, 100), (None, 100)):
        assert with_warmup(CosineSchedule(), steps).warmup_steps == expected
        assert with_warmup(CosineSchedule(warmup_steps=7), steps).warmup_steps == 7
        assert with_warmup(ConstantSchedule(), steps).warmup_steps == 0
    lists = folder / "train.csv", folder / "validation.csv"
    train(settings(*lists, tmp_path / "run", "classification", steps=1, epochs=None, log_every_steps=1))
    said = capsys.readouterr().err
    assert "warmup" not in said and "1 step of" in said
    rates = [row["lr"] for row in read_rows(tmp_path / "run") if "lr" in row]
    assert rates and rates[0] == pytest.approx(0.03)
    train(settings(*lists, tmp_path / "own", "classification", steps=1, epochs=None, schedule={"warmup_steps": 5}))
    said = " ".join(capsys.readouterr().err.split())
    assert "schedule.warmup_steps=5, but there is 1 step:" in said
