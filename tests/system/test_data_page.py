"""docs/data.md says what the readers do: its examples are read, its lists of names compared with the code."""

import re
from pathlib import Path

import pytest

from kinsight.data import read_records
from kinsight.data.decode import MAX_PIXELS
from kinsight.specs.data import Csv, Folder, ImageList, Itag

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def block(title: str, kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", section(title), re.DOTALL)
    assert found is not None
    return found[1]


def list_examples() -> list[tuple[str, str, list[str]]]:
    rows = [line.split(" | ") for line in section("Image lists").splitlines() if line.startswith("| `")]
    quoted = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    return [(line[0].replace("⇥", "\t"), path[0], labels) for line, path, labels in quoted]


def labels_of(records, row: int) -> list[str]:
    return [records.class_names[label] for label in records.labels(row)]


@pytest.mark.parametrize("example", list_examples(), ids=lambda example: example[0])
def test_each_line_of_the_table_is_read_as_it_says(example: tuple[str, str, list[str]], tmp_path: Path):
    line, path, labels = example
    (tmp_path / "list.txt").write_text(line + "\n", encoding="utf-8")
    records = read_records(ImageList(path=str(tmp_path / "list.txt")))
    assert (records.uri(0), labels_of(records, 0)) == (str(tmp_path / path), labels)


def test_there_are_examples_of_every_rule():
    assert len(list_examples()) >= 14


def test_comments_in_a_list(tmp_path: Path):
    (tmp_path / "list.txt").write_text("\ufeff# a comment\r\n##\r\n#\r\n#7.jpg 3\r\n", encoding="utf-8")
    records = read_records(ImageList(path=str(tmp_path / "list.txt")))
    assert records.uri(0) == str(tmp_path / "#7.jpg") and len(records) == 1


def test_the_folder(tmp_path: Path):
    paths = [line.split()[0] for line in block("Folders", "").splitlines() if line]
    assert len(paths) == 5
    for path in paths:
        if "stray" not in path:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(b"x")
    records = read_records(Folder(path=str(tmp_path / "photos/train")))
    assert records.class_names == ("boot", "shoe/pump") and len(records) == 2
    assert "1 files are not named like images" in records.notes[0]
    (tmp_path / "photos/train/stray.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"stray\.jpg lies outside the class folders"):
        read_records(Folder(path=str(tmp_path / "photos/train")))


def test_the_table(tmp_path: Path):
    (tmp_path / "list.csv").write_text(block("CSV and Parquet", "csv"))
    records = read_records(Csv(path=str(tmp_path / "list.csv"), image_column="file", label_column="product"))
    assert [labels_of(records, row) for row in range(3)] == [["boot"], ["pump|party"], ["1", "2"]]
    assert "season" in records.table.column_names


def test_the_manifest(tmp_path: Path):
    (tmp_path / "list.manifest").write_text(block("iTAG manifests", "json"), encoding="utf-8")
    records = read_records(Itag(path=str(tmp_path / "list.manifest")))
    assert [labels_of(records, row) for row in range(2)] == [["boot"], ["pump"]]
    assert records.uri(1) == "oss://shop/img/2.jpg"


def test_every_environment_variable_of_storage_is_named():
    sources = [*(ROOT / "kinsight/storage").glob("*.py"), ROOT / "kinsight/models/weights.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    known = set(re.findall(r'"((?:KINSIGHT|OSS)_[A-Z0-9_]+)"', text))
    named = set(re.findall(r"`((?:KINSIGHT|OSS)_[A-Z0-9_]+)`", PAGE))
    assert known == named


def test_the_largest_image():
    assert f"{MAX_PIXELS:,} pixels" in PAGE
