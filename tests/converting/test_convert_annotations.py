"""Annotations of objects, with classes that only difficult objects show, become labelled images of other forms."""

import json
from pathlib import Path

import pytest
from conversions import encoded

from kinsight.converting import convert
from kinsight.data import read_records
from kinsight.data.one_image import read_image
from kinsight.errors import DataError
from kinsight.specs.data import Parquet, TFRecord


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def voc(tmp_path):
    """Image 1 shows a cat and, hard to see, a dog; image 2 a dog; image 3 a cat that is hard to see."""
    folder = tmp_path / "voc"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    for name, objects in {1: [("cat", 0), ("dog", 1)], 2: [("dog", 0)], 3: [("cat", 1)]}.items():
        inner = "".join(f"<object><name>{n}</name><difficult>{hard}</difficult></object>" for n, hard in objects)
        (folder / f"Annotations/{name}.xml").write_text(f"<annotation>{inner}</annotation>")
        (folder / f"JPEGImages/{name}.jpg").write_bytes(encoded(name))
    return {"format": "voc", "path": str(folder)}


@pytest.fixture
def coco(tmp_path):
    for name in (1, 2, 3):
        (tmp_path / f"{name}.jpg").write_bytes(encoded(name))
    tree = {
        "images": [{"id": 10 * name, "file_name": f"{name}.jpg"} for name in (1, 2, 3)],
        "categories": [{"id": 7, "name": "kite"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"image_id": image, "category_id": category} for image, category in ((10, 7), (10, 2), (20, 7))
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(tree))
    return {"format": "coco", "path": str(tmp_path / "instances.json")}


def converted(tmp_path, data, kind="tfrecord", **options):
    """What each image shows, by the number in its colour, read back from the conversion."""
    out = convert({"data": data, "output": str(tmp_path / "out"), "to": {"kind": kind}, "workers": 0, **options})
    source = TFRecord(path=f"{out}/train_*.tfrecord") if kind == "tfrecord" else Parquet(path=f"{out}/train_*.parquet")
    records = read_records(source, labelled=False)
    number_of = {encoded(number): number for number in (1, 2, 3)}
    return {
        number_of[read_image(records.uri(i))]: {records.class_names[k] for k in records.labels(i)}
        for i in range(len(records))
    }


def test_voc_names_the_remedy(voc, tmp_path):
    with pytest.raises(DataError, match=r"nobody knows whether the image shows them.*so have 1 more") as error:
        converted(tmp_path, voc)
    assert "set unknown to absent" in str(error.value) and not Path(tmp_path, "out").exists()


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
def test_voc_with_unknown_classes_as_absent(voc, tmp_path, capsys, kind):
    found = converted(tmp_path, voc, kind, unknown="absent", unlabelled="keep")
    assert found == {1: {"cat"}, 2: {"dog"}, 3: set()}
    assert "2 unknown labels of 2 images count as not shown" in " ".join(capsys.readouterr().err.split())


def test_voc_without_images_of_unknown_classes(voc, tmp_path, capsys):
    assert converted(tmp_path, voc, unknown="leave-out") == {2: {"dog"}}
    assert "2 of 3 images have labels nobody knows and are left out" in " ".join(capsys.readouterr().err.split())


def test_absent_labels_leave_images_without_any(voc, tmp_path):
    with pytest.raises(DataError, match="has no label; so have 0 more"):
        converted(tmp_path, voc, unknown="absent")
    assert converted(tmp_path, voc, unknown="absent", unlabelled="leave-out") == {1: {"cat"}, 2: {"dog"}}


def test_coco(coco, tmp_path):
    assert converted(tmp_path, coco, unlabelled="keep") == {1: {"kite", "cat"}, 2: {"kite"}, 3: set()}
    assert Path(tmp_path, "out/classes.txt").read_text() == "cat\nkite\n"
