"""The end of a training of classes or labels: what it tells, and what it leaves in the bundle."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinsight.errors import SpecError
from kinsight.models import load_header
from kinsight.training import train
from kinsight.training.record import read_rows

NAMES = ("ash", "birch", "cedar")
CONV = {"backbone": "conv4", "pretrained": None}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """{train,validation}.csv: a picture's brightness tells its label."""
    folder = tmp_path_factory.mktemp("end")
    random = np.random.default_rng(0)
    for part, each in (("train", 12), ("validation", 8)):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label", *NAMES])
            for number in range(3 * each):
                label = number % 3
                pixels = random.integers(60 * label, 60 * label + 120, (16, 16), dtype=np.uint8)
                name = f"{part}-{number}.png"
                Image.fromarray(pixels).save(folder / name)
                writer.writerow([name, NAMES[label], *[int(label == other) for other in range(3)]])
    return folder


def run(lists: Path, output: Path, task: str, **settings: object) -> dict:
    columns = {"label_columns": list(NAMES)} if task == "multilabel" else {}
    sources = {
        part: {"path": str(lists / f"{part}.csv"), "format": "csv", **columns} for part in ("train", "validation")
    }
    data = {**sources, "image_size": 16, "crop": 1.0, "color": "gray", "augment": {"kind": "none"}, "workers": 0}
    spec = {"output": str(output), "task": task, "data": data, "model": CONV, "epochs": 2, "batch": {"size": 12}}
    spec |= {"optimizer": {"kind": "sgd", "lr": 0.1}, "schedule": {"warmup_steps": 0}, "device": "cpu", "nproc": 1}
    train(spec | settings)
    return json.loads((output / "run.json").read_text())


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_page_temperature_and_thresholds(task: str, lists: Path, tmp_path: Path) -> None:
    settings = {"classes": {"num_visualizations": 3, "each_class": task == "multilabel"}, "keep": "last"}
    told = run(lists, tmp_path / "run", task, validate=settings)["validation"]["metrics"]
    header = load_header(tmp_path / "run")
    assert header.temperature == pytest.approx(told["temperature"])
    assert (header.label_thresholds is None) == (task == "classification")
    assert ("cf1" in told, "accuracy" in told) == (task == "multilabel", task == "classification")
    text = (tmp_path / "run/report/index.html").read_text(encoding="utf-8")
    for words in ("Training loss", "How sure it may be", "with the model&#x27;s temperature"):
        assert words in text
    assert ("Every label" in text, "Every class" in text) == (task == "multilabel", False)
    exact = told["accuracy"] if task == "classification" else told["chosen/exact_match"]
    wrong = round(24 * (1 - exact))  # with the thresholds that the bundle has
    shown = [
        text.partition(f'id="{part}"')[2].partition("</section>")[0].count("<figure") for part in ("wrong", "right")
    ]
    assert shown == [min(3, wrong), max(0, 3 - wrong)]


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_name_means_the_same_in_the_rows_and_at_the_end(task: str, lists: Path, tmp_path: Path) -> None:
    told = run(lists, tmp_path / "run", task, validate={"keep": "last"})["validation"]["metrics"]
    row = [row for row in read_rows(tmp_path / "run") if row["kind"] == "validation"][-1]
    both = set(row) & set(told)
    assert both >= ({"accuracy", "macro_recall"} if task == "classification" else {"map", "cf1", "of1", "exact_match"})
    assert {name: told[name] for name in both} == pytest.approx({name: row[name] for name in both})
    text = (tmp_path / "run/report/index.html").read_text(encoding="utf-8")
    assert "on these very images" in text and "which was chosen by them, as were its temperature" in text
    assert ("thresholds chosen here" in text) == ("chosen/cf1" in told) == (task == "multilabel")
    name = "accuracy" if task == "classification" else "map"
    if told[name] < 1:
        assert 0 <= told[f"{name}.low"] <= told[name] <= told[f"{name}.high"] <= 1


def test_nothing_is_kept_when_not_wanted(lists: Path, tmp_path: Path) -> None:
    run(lists, tmp_path / "run", "multilabel", validate={"write_thresholds": False}, report=None)
    header = load_header(tmp_path / "run")
    assert (header.temperature, header.label_thresholds) == (None, None)


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("metric", {"validate": {"classes": {"each_class": False}}}, "no effect with task=metric"),
        ("classification", {"validate": {"classes": {"precision": 0.5}}}, r"classes\.precision has no effect"),
        ("multilabel", {"validate": {"classes": {"ks": [2]}}}, r"classes\.ks has no effect"),
        ("multilabel", {"validate": {"classes": {"each_class": False}}, "report": None}, "no effect without report"),
        ("multilabel", {"report": {"map": "pca"}}, "no map of the vectors"),
        ("classification", {"validate": {"classes": {"ks": [3]}}}, r"validate\.classes\.ks=3: is always 1 with 3"),
    ],
)
def test_settings_without_effect(task: str, settings: dict, words: str, lists: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        run(lists, tmp_path / "run", task, **settings)
