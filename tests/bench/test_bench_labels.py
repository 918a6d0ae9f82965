"""`bench labels` on a few pictures: mosaics say what they show, runs are kept, figures come from the test mosaics."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinsight.bench import labels
from kinsight.errors import DataError, SpecError
from kinsight.specs.bench_labels import BenchLabels


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class c is grey 40 + 40 c all over."""
    label_N = np.arange(200) % 4
    flat_NP = np.repeat((40 + 40 * label_N)[:, None], 144, 1).astype(np.uint8)
    file = tmp_path / "pictures.npz"
    np.savez(file, train=flat_NP, train_label=label_N, test=flat_NP[:40], test_label=label_N[:40])
    return file


def spec(pictures: Path, **further: Any) -> BenchLabels:
    settings = {"pictures": str(pictures), "output": str(pictures.parent / "bench"), "images": 200, "test_images": 100}
    return BenchLabels.model_validate(settings | {"epochs": 1, "seeds": 1, "losses": ["bce-balanced", "asl"]} | further)


def test_mosaics_and_figures(pictures: Path) -> None:
    wanted = spec(pictures, hidden=0.3, imbalance=4)
    found = labels.run(wanted)
    folder = Path(wanted.output)
    with (folder / "mosaics/test/labels.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "label0", "label1", "label2", "label3"] and len(rows) == 101
    for name, *cells in rows[1:]:
        greys = {int(value) for value in np.unique(np.asarray(Image.open(folder / "mosaics/test" / name)))} - {0}
        assert greys == {40 + 40 * number for number, cell in enumerate(cells) if cell == "1"}
    hidden = (folder / "mosaics/train/labels.csv").read_text().count("?")
    assert 0.2 < hidden / 800 < 0.4
    assert [(row["loss"], row["seed"]) for row in found["rows"]] == [("bce-balanced", 0), ("asl", 0)]
    assert all(0 < row["map"] <= 1 for row in found["rows"])
    assert json.loads((folder / "results.json").read_text())["rows"] == found["rows"]
    before = (folder / "asl-0/run.json").stat().st_mtime_ns
    assert labels.run(wanted)["rows"] == found["rows"]
    assert (folder / "asl-0/run.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="mosaics of other settings"):
        labels.run(spec(pictures, filled=0.9))
    for setting, value in (("epochs", 2), ("lr", 0.1)):
        with pytest.raises(SpecError, match=rf"{setting}.*\n.*choose another output") as refused:
            labels.run(spec(pictures, hidden=0.3, imbalance=4, **{setting: value}))
        assert refused.value.field == f"output={wanted.output}"


def test_what_cannot_be_measured_is_no_zero() -> None:
    assert labels._cell([0.5, None]) == "-"
    assert labels._cell([0.5, 0.7]).startswith("0.6000 ± 0.14")


def test_no_pictures(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", train=np.zeros((3, 5), np.uint8))
    with pytest.raises(DataError, match=r"other\.npz: .*train_label"):
        labels.run(spec(tmp_path / "other.npz"))
