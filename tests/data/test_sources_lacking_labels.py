"""A model's labels that a table has no column for, columns that are none of its labels, rows of several classes."""

from pathlib import Path

import numpy as np
import pytest

from kinsight.data import read_records
from kinsight.data.multi_hot import MultiHot
from kinsight.errors import DataError
from kinsight.specs.data import Csv, ImageList

NAMES = ["ace", "jack", "king"]


def table(folder: Path, text: str) -> Csv:
    (folder / "a.csv").write_text(text)
    return Csv(path=str(folder / "a.csv"), label_columns=["*"])


def test_a_label_without_a_column_is_unknown(tmp_path: Path) -> None:
    source = table(tmp_path, "image,king,ace\na.jpg,1,0\nb.jpg,?,1\nc.jpg,0,0\n")
    records = read_records(source, classes=NAMES, learned=True, labelled=False)
    assert MultiHot(records)[np.arange(3)].tolist() == [[0, -1, 1], [1, -1, -1], [0, -1, 0]]
    assert MultiHot(records).known_C.tolist() == [3, 0, 2]
    assert [note for note in records.notes if "jack" in note and "unknown" in note]
    other = read_records(table(tmp_path, "image,ace,jack,king\na.jpg,1,0,0\n"), classes=NAMES, learned=True)
    assert not other.notes and other.table["unknown"].to_pylist() == [[]]


def test_sources_that_list_what_is_there_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label\na.jpg,ace\nb.jpg,king\n")
    records = read_records(Csv(path=str(tmp_path / "a.csv")), classes=NAMES, learned=True)
    assert MultiHot(records)[[0, 1]].tolist() == [[1, 0, 0], [0, 0, 1]] and not records.notes


def test_a_column_that_is_no_label_is_named_once(tmp_path: Path) -> None:
    source = table(tmp_path, "image,ace,jack,king,joker\na.jpg,1,0,0,0\n")
    records = read_records(source, classes=NAMES, learned=True)
    assert [note for note in records.notes if "joker" in note] and len(records.notes) == 1
    assert not read_records(source, classes=NAMES, learned=True, remarks=False).notes


def test_rows_with_a_label_that_is_unknown_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a.jpg ace\nb.jpg joker\nc.jpg joker\n")
    with pytest.raises(DataError, match=r"a\.txt:2: label 'joker' \(2 such rows\)"):
        read_records(ImageList(path=str(tmp_path / "a.txt")), classes=NAMES)


def test_a_row_of_two_classes_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label\na.jpg,0\nb.jpg,1 2\nc.jpg,0 1\n")
    with pytest.raises(DataError, match=r"a\.csv:3: has 2 labels \(1, 2\).*1 more image(.|\n)*task=multilabel"):
        read_records(Csv(path=str(tmp_path / "a.csv")), single=True)
