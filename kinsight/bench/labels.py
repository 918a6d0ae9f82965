"""`kinsight bench labels`: losses over labels at equal budget, on mosaics of two by two labelled pictures.

A mosaic's labels are those of its up to four pictures. Mosaics of the test pictures are measured; thresholds of labels
are chosen on mosaics of training pictures that were kept back. Everything but the loss is the same: network, images,
their order, steps, rates.
"""

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from kinsight import progress, storage
from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.evaluation import evaluate
from kinsight.specs.bench_labels import BenchLabels, LabelLoss
from kinsight.training import train

_FIGURES = ("map", "micro_map", "cf1", "of1", "exact_match")
_HELD_BACK = 0.1  # share of the training pictures that thresholds are chosen by
_PARTS = ("train", "validation", "test")


def run(spec: BenchLabels) -> dict[str, Any]:
    """Draw, train, measure, print a table, return the figures. Raises KinsightError as trainings do."""
    folder = Path(spec.output)
    _draw(spec, folder / "mosaics")
    torch.set_num_threads(spec.threads)
    rows = []
    with progress.task("bench labels", len(spec.losses) * spec.seeds, "trainings") as task:
        for seed in range(spec.seeds):
            for loss in spec.losses:
                rows.append({"loss": loss, "seed": seed, **_measured(spec, folder, loss, seed)})
                task.advance(1)
    storage.write_text(folder / "results.json", json.dumps({"spec": spec.model_dump(), "rows": rows}, indent=2) + "\n")
    Console().print(_table(spec, rows))
    return {"processes": 1, "threads": spec.threads, "rows": rows}


def _measured(spec: BenchLabels, folder: Path, loss: LabelLoss, seed: int) -> dict[str, float | None]:
    output = folder / f"{loss}-{seed}"
    _train_once(spec, _training(spec, folder, output, loss, seed))
    found = evaluate(
        {
            "bundle": str(output),
            "data": _source(folder, "test"),
            "output": str(folder / f"{loss}-{seed}-test"),
            "write_thresholds": False,
            "report": None,
            "workers": 1,
            "device": "cpu",
        }
    )
    return {name: found.metrics[name] for name in _FIGURES}


def _train_once(spec: BenchLabels, training: dict[str, Any]) -> None:
    """Train, unless this very training is finished there. Raises SpecError where one of other settings is."""
    try:
        train(training)
    except SpecError as error:
        if error.code == "run.other-settings":
            place = f"output={spec.output}"
            raise SpecError(error.code, error.message, field=place, remedy="choose another output") from None
        if error.code != "run.finished":
            raise


def _training(spec: BenchLabels, folder: Path, output: Path, loss: LabelLoss, seed: int) -> dict[str, Any]:
    kind: dict[str, Any] = {"kind": loss}
    if loss == "bce-balanced":
        kind = {"kind": "bce", "positive_weight": "balanced"}
    with Image.open(folder / "mosaics/test/0.png") as mosaic:
        size = mosaic.width
    return {
        "output": str(output),
        "task": "multilabel",
        "data": {
            "train": _source(folder, "train"),
            "validation": _source(folder, "validation"),
            "image_size": size,
            "color": "gray",
            "crop": 1,
            "augment": {"kind": "none"},
            "cache": "memory",
            "workers": 1,
        },
        "model": {"backbone": "conv4", "pretrained": None, "pooling": {"kind": "max"}},
        "loss": kind,
        "optimizer": {"kind": "adamw", "lr": spec.lr},
        "schedule": {"kind": "cosine", "warmup_steps": 20},
        "batch": {"size": 128},
        "epochs": spec.epochs,
        "validate": {"times": 1, "keep": "last"},
        "report": None,
        "device": "cpu",
        "seed": seed,
    }


def _source(folder: Path, part: str) -> dict[str, Any]:
    path = str(folder / "mosaics" / part / "labels.csv")
    return {"format": "csv", "path": path, "image_column": "image", "label_columns": ["*"]}


def _pictures(spec: BenchLabels) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(storage.read_bytes(spec.pictures)), allow_pickle=False) as file:
            found = {name: file[name] for name in ("train", "train_label", "test", "test_label")}
    except (KinsightError, ValueError, EOFError, KeyError, OSError) as error:
        raise DataError("bench.pictures", f"{spec.pictures}: {error}", field="pictures") from None
    side = _side(found["train"])
    if found["train"].dtype != np.uint8 or side**2 != found["train"].shape[-1]:
        raise DataError("bench.pictures", "expected a square grey picture of uint8 a row", field="pictures")
    return found


def _side(pictures_NP: np.ndarray) -> int:
    return round(pictures_NP.shape[-1] ** 0.5)


def _draw(spec: BenchLabels, folder: Path) -> None:
    """The mosaics of each part, unless they are there."""
    wanted = spec.model_dump_json(include={"pictures", "images", "test_images", "filled", "imbalance", "hidden"})
    done = folder / "settings.json"
    if done.exists():
        if done.read_text() != wanted:
            raise DataError(
                "bench.other-mosaics",
                "holds mosaics of other settings",
                field=f"output={spec.output}",
                remedy="choose another output",
            )
        return
    found = _pictures(spec)
    cut = int(len(found["train"]) * (1 - _HELD_BACK))
    parts = (
        (found["train"][:cut], found["train_label"][:cut], spec.images, spec.hidden),
        (found["train"][cut:], found["train_label"][cut:], max(spec.test_images // 2, 100), 0.0),
        (found["test"], found["test_label"], spec.test_images, 0.0),
    )
    for number, (name, (pictures_NP, label_N, count, hidden)) in enumerate(zip(_PARTS, parts, strict=True)):
        random = np.random.default_rng(number)
        _draw_part(folder / name, pictures_NP, label_N, count, hidden, spec, random)
    done.write_text(wanted)


def _draw_part(
    folder: Path,
    pictures_NP: np.ndarray,
    label_N: np.ndarray,
    count: int,
    hidden: float,
    spec: BenchLabels,
    random: np.random.Generator,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    side, classes = _side(pictures_NP), np.unique(label_N)
    weight_C = spec.imbalance ** (-np.arange(len(classes)) / max(len(classes) - 1, 1))
    members = [np.flatnonzero(label_N == label) for label in classes]
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", *(f"label{label}" for label in classes)])
        for number in range(count):
            mosaic = np.zeros((2 * side, 2 * side), np.uint8)
            shown_C = np.zeros(len(classes), bool)
            for row, column in np.argwhere(random.random((2, 2)) < spec.filled):
                drawn = random.choice(len(classes), p=weight_C / weight_C.sum())
                picture = pictures_NP[random.choice(members[drawn])].reshape(side, side)
                mosaic[row * side : (row + 1) * side, column * side : (column + 1) * side] = picture
                shown_C[drawn] = True
            Image.fromarray(mosaic).save(folder / f"{number}.png")
            known_C = random.random(len(classes)) >= hidden
            cells = np.where(known_C, shown_C.astype(int).astype(str), "?")
            table.writerow([f"{number}.png", *cells.tolist()])


def _table(spec: BenchLabels, rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title=f"{spec.test_images:,} test mosaics after {spec.epochs} epochs of {spec.images:,}; mean and deviation of "
        f"{spec.seeds} seed(s); {spec.threads} thread(s), 1 process"
    )
    for name in ("loss", *_FIGURES):
        table.add_column(name, justify="left" if name == "loss" else "right")
    for loss in spec.losses:
        table.add_row(loss, *(_cell([row[name] for row in rows if row["loss"] == loss]) for name in _FIGURES))
    return table


def _cell(values: list[float | None]) -> str:
    """Mean and deviation over the seeds; "-" where one could not be measured."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    return f"{statistics.mean(known):.4f}" + (f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else "")
