"""Tables with one column for each label: positives, negatives and labels nobody knows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinsight.data import read_records
from kinsight.errors import DataError
from kinsight.specs.data import Csv, Parquet


def rows(records):
    return [(records.labels(i), records.table["unknown"][i].as_py()) for i in range(len(records))]


def test_a_csv_of_ones_zeros_and_unknowns(tmp_path):
    (tmp_path / "a.csv").write_text(
        "image,cat,dog,bird,group\na.jpg,1,0,0,7\nb.jpg,0,,1,8\nc.jpg,?,-1,1.0,9\nd.jpg,0,0,0,9\n"
    )
    source = Csv(path=str(tmp_path / "a.csv"), label_columns=["*"])
    records = read_records(source, labelled=False)
    assert records.class_names == ("cat", "dog", "bird")
    assert rows(records) == [([0], []), ([2], [1]), ([2], [0, 1]), ([], [])]
    assert records.table["group"].to_pylist() == [7, 8, 9, 9]
    assert records.table.column_names == ["uri", "labels", "unknown", "group"]


def test_columns_are_chosen_and_ordered(tmp_path):
    (tmp_path / "a.csv").write_text("image,cat,dog,bird\na.jpg,1,0,1\n")
    records = read_records(Csv(path=str(tmp_path / "a.csv"), label_columns=["bird", "cat"]))
    assert records.class_names == ("bird", "cat") and rows(records) == [([0, 1], [])]
    assert "dog" in records.table.column_names
    named = read_records(Csv(path=str(tmp_path / "a.csv"), label_columns=["bird", "cat"]), classes=["cat", "x", "bird"])
    assert rows(named) == [([2, 0], [1])]  # of x nothing is said


def test_a_label_column_that_is_not_there_is_told_with_the_nearest(tmp_path):
    (tmp_path / "a.csv").write_text("image,ace,jack,ten\na.jpg,1,0,1\n")
    with pytest.raises(DataError) as caught:
        read_records(Csv(path=str(tmp_path / "a.csv"), label_columns=["ace", "jakc", "ten"]))
    assert caught.value.remedy == "did you mean 'jack' instead of 'jakc'?"
    with pytest.raises(DataError) as caught:
        read_records(Csv(path=str(tmp_path / "a.csv"), label_columns=["ace", "jack", "ten", "zzz"]))
    assert caught.value.remedy == "take 'zzz' out of label_columns"


def test_parquet_with_every_type_of_cell(tmp_path):
    table = pa.table(
        {
            "image": ["a", "b", "c"],
            "flag": [True, False, None],
            "number": [1, -1, 0],
            "share": [0.0, 1.0, None],
            "word": pa.array(["1", "?", " 0 "]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    records = read_records(Parquet(path=str(tmp_path / "a.parquet"), label_columns=["*"]), labelled=False)
    assert rows(records) == [([0, 1, 3], []), ([2], [1, 3]), ([], [0, 2])]


def test_what_is_wrong_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("image,cat,dog\na.jpg,1,0\nb.jpg,0,0.5\n")
    with pytest.raises(DataError, match=r"a\.csv:3.*'0\.5' in label column 'dog'"):
        read_records(Csv(path=str(tmp_path / "a.csv"), label_columns=["*"]))
    (tmp_path / "b.csv").write_text("image,cat,dog\na.jpg,1,0\nb.jpg,0,0\n")
    with pytest.raises(DataError, match=r"b\.csv:3.*no label column holds 1"):
        read_records(Csv(path=str(tmp_path / "b.csv"), label_columns=["*"]))
    with pytest.raises(DataError, match=r"no column 'dogs'.*\n.*did you mean 'dog' instead of 'dogs'"):
        read_records(Csv(path=str(tmp_path / "b.csv"), label_columns=["cat", "dogs"]))
    with pytest.raises(ValueError, match="set one of them"):
        Csv(path="a.csv", label_columns=["*"], label_column="x")
