"""SOP lists, CSV and Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from kinsight.data.records import Records
from kinsight.data.sources.read import read_records
from kinsight.errors import DataError
from kinsight.specs.data import Csv, Parquet, Sop

SOP_HEADER = "image_id class_id super_class_id path\n"


def csv(folder: Path, text: str, **settings: Any) -> Csv:
    path = folder / "train.csv"
    path.write_bytes(text.encode())
    return Csv(path=str(path), **settings)


def table(folder: Path, columns: dict[str, Any], **settings: Any) -> Parquet:
    path = folder / "train.parquet"
    parquet.write_table(pa.table(columns), path)
    return Parquet(path=str(path), **settings)


def names(records: Records) -> list[list[str]]:
    return [[records.class_names[label] for label in records.labels(i)] for i in range(len(records))]


def sop(folder: Path, text: str) -> Sop:
    (folder / "Ebay_test.txt").write_text(text)
    return Sop(path=str(folder / "Ebay_test.txt"))


def test_sop_labels_are_numbered_and_keep_their_ids(tmp_path: Path) -> None:
    text = (
        SOP_HEADER + "1 11320 2 sofa_final/1_0.JPG\n2 11319 1 bicycle_final/2_0.JPG\r\n3 11320 2 sofa_final/1_1.JPG\n"
    )
    records = read_records(sop(tmp_path, text))
    assert records.label_N.tolist() == [1, 0, 1]
    assert records.class_names == ("11319", "11320")
    assert records.table["group"].to_pylist() == [2, 1, 2]
    assert records.uri(0) == str(tmp_path / "sofa_final/1_0.JPG")
    assert records.table["image_id"].to_pylist() == [1, 2, 3]
    assert records.place(0).endswith("Ebay_test.txt:2")
    assert read_records(sop(tmp_path, text), num_classes=2).num_classes == 2
    with pytest.raises(DataError, match=r"Ebay_test.txt:3: label '11319' is class number 2, but num_classes=1"):
        read_records(sop(tmp_path, text), num_classes=1)


def test_sop_without_header_and_other_files(tmp_path: Path) -> None:
    assert len(read_records(sop(tmp_path, "1 1 1 a b.jpg\n"))) == 1
    with pytest.raises(DataError, match="set `format: image-list`"):
        read_records(sop(tmp_path, "a.jpg 1\n"))
    with pytest.raises(DataError, match=r"Ebay_test.txt:3: 'x 1 1 a.jpg' is not three integers"):
        read_records(sop(tmp_path, SOP_HEADER + "1 1 1 a.jpg\nx 1 1 a.jpg\n"))
    with pytest.raises(DataError, match="only blank lines"):
        read_records(sop(tmp_path, SOP_HEADER))


def test_csv_columns_and_groups(tmp_path: Path) -> None:
    text = '\ufefffile,split,cls,track\n"a, b.jpg",train,dog,t10\r\n猫.jpg,test,cat,t9\n/abs.jpg,test,dog,\n'
    source = csv(tmp_path, text, image_column="file", label_column="cls", group_column="track", root="s3://b/x")
    records = read_records(source)
    assert [records.uri(i) for i in range(3)] == ["s3://b/x/a, b.jpg", "s3://b/x/猫.jpg", "/abs.jpg"]
    assert names(records) == [["dog"], ["cat"], ["dog"]]
    assert records.table["group"].to_pylist() == ["t10", "t9", None] == records.table["track"].to_pylist()
    assert records.numbers("group", field="x").tolist() == [0, 1, -1]
    assert records.table["split"].to_pylist() == ["train", "test", "test"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiters(tmp_path: Path, delimiter: str) -> None:
    text = "image,label\na.jpg,3\nb.jpg,0\n".replace(",", delimiter)
    assert read_records(csv(tmp_path, text)).class_names == ("0", "3")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("7", ["7"]), ("007", ["7"]), ("big dog", ["big dog"]), ('"1,2"', ["1", "2"]), ("1 2", ["1", "2"]),
        ("1;2", ["1", "2"]), ("1|2", ["1", "2"]), ('"[1, 2]"', ["1", "2"]), ('"[""a"", ""b c""]"', ["a", "b c"]),
        ("\"['a', 'b']\"", ["a", "b"]), ("[1 2]", ["1", "2"]), (" 5 ", ["5"]),
    ],
)  # fmt: skip
def test_csv_label_cells(tmp_path: Path, cell: str, expected: list[str]) -> None:
    assert names(read_records(csv(tmp_path, f"image,label\na.jpg,{cell}\n"))) == [expected]


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    text = "image,Labels,x\na.jpg,1,2\n"
    with pytest.raises(DataError, match=r"has no column 'label'; its columns are image, Labels, x\n.*to 'Labels'"):
        read_records(csv(tmp_path, text))
    with pytest.raises(DataError, match="set image_column to 'image'"):
        read_records(csv(tmp_path, text, image_column="images"))
    assert read_records(csv(tmp_path, text), labelled=False).labels(0) == []
    with pytest.raises(DataError, match="has no column 'labelx'"):
        read_records(csv(tmp_path, text, label_column="labelx"), labelled=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("image,label\n", "only blank lines"),
        ("image,label\na.jpg,1\nb.jpg,\n", "train.csv:3: column 'label' is empty here"),
        ("image,label\na.jpg,1\n,2\n", "train.csv:3: column 'image' is empty here"),
        ("image,label\na.jpg,1\nb.jpg,2,3\n", "a row has 3 cells where the header has 2"),
        ("image,label\na.jpg,1\nb.jpg,-2\n", "train.csv:3: label -2 is negative"),
        ('image,label\n"a\nb.jpg",1\nb.jpg,-2\n', "train.csv row 2: label -2"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_records(csv(tmp_path, text))
    assert message in str(caught.value)


LABELS = {
    "int64": pa.array([3, 0, 3]),
    "uint8": pa.array([3, 0, 3], pa.uint8()),
    "float": pa.array([3.0, 0.0, 3.0]),
    "text": pa.array(["3", "0", "3"]),
    "large text": pa.array(["3", "0", "3"], pa.large_string()),
    "categories": pa.array(["3", "0", "3"]).dictionary_encode(),
    "lists": pa.array([[3], [0], [3]]),
    "lists of text": pa.array([["3"], ["0"], ["3"]]),
    "fixed lists": pa.array([[3], [0], [3]], pa.list_(pa.int16(), 1)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_parquet_label_types(tmp_path: Path, kind: str) -> None:
    source = table(tmp_path, {"image": ["a.jpg", "b.jpg", "c.jpg"], "label": LABELS[kind], "weight": [0.5, 1.0, 2.0]})
    records = read_records(source)
    assert records.label_N.tolist() == [1, 0, 1]
    assert records.class_names == ("0", "3")
    assert records.table["weight"].to_pylist() == [0.5, 1.0, 2.0]
    assert records.uri(1) == str(tmp_path / "b.jpg")


def test_parquet_multi_labels_and_groups(tmp_path: Path) -> None:
    columns = {
        "image": ["a", "b", "c"],
        "label": [["x", "y"], ["y"], ["x", "x"]],
        "g": [5, 2**31, None],
        "line": [9, 9, 9],
    }
    records = read_records(table(tmp_path, columns, group_column="g"))
    assert names(records) == [["x", "y"], ["y"], ["x"]]
    assert records.table["group"].to_pylist() == [5, 2**31, None]
    assert records.table["line_"].to_pylist() == [9, 9, 9]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a"], "label": pa.array([None], pa.int32())}, "row 1: column 'label' is empty"),
        ({"image": ["a", "b"], "label": [[1], []]}, "row 2: column 'label' is empty"),
        ({"image": ["a", "b"], "label": [1.0, 1.5]}, "row 2: label 1.5 of column 'label' is not a whole number"),
        ({"image": [b"\xff\xd8"], "label": [1]}, "the images have a dictionary"),
        ({"image": ["a"], "label": [{"x": 1}]}, "labels are integers, texts"),
        ({"image": pa.array([], pa.string()), "label": pa.array([], pa.int32())}, "only blank lines"),
        ({"image": ["a", None], "label": [1, 2]}, "row 2: column 'image' is empty"),
        ({"image": ["a", "b"], "label": [1, -2]}, "row 2: label -2 is negative"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_records(table(tmp_path, columns))
    assert message in str(caught.value)


def test_a_text_file_is_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("image,label\n")
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        read_records(Parquet(path=str(tmp_path / "a.parquet")))


def test_all_formats_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 50, 1000)
    paths = [f"目录 {i}/x.jpg" for i in range(1000)]
    rows = [f"{path},{label}" for path, label in zip(paths, labels, strict=True)]
    from_csv = read_records(csv(tmp_path, "image,label\n" + "\n".join(rows)))
    from_parquet = read_records(table(tmp_path, {"image": paths, "label": labels}))
    assert from_csv.fingerprint == from_parquet.fingerprint
    assert from_csv.label_N.tolist() == labels.tolist()


def test_groups_of_any_text_or_number_and_a_column_of_that_name(tmp_path: Path) -> None:
    texts = pa.array(["b", "", None, "a", "b"])
    kinds = [texts, texts.cast(pa.large_string()), texts.dictionary_encode(), pa.array([7, None, None, 2**40, 7])]
    for number, column in enumerate(kinds):
        rows = {"image": list("vwxyz"), "label": ["k"] * 5, "group": column}
        records = read_records(table(tmp_path, rows))
        assert records.numbers("group", field="x").tolist() == [0, -1, -1, 1, 0], number
        assert "group_" not in records.table.column_names
    rows = {"image": ["a"], "label": ["k"], "group": ["mine"], "super": ["s"]}
    records = read_records(table(tmp_path, rows, group_column="super"))
    assert [records.table[name][0].as_py() for name in ("group", "group_", "super")] == ["s", "mine", "s"]
    rows = {"image": ["a", "b"], "label": ["k", "k"], "kind": [0.5, 1.5]}
    with pytest.raises(DataError, match="holds double: expected whole numbers or text") as caught:
        read_records(table(tmp_path, rows)).numbers("kind", field="x")
    assert caught.value.remedy


def test_a_column_that_is_taken_is_no_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'image'") as caught:
        read_records(csv(tmp_path, "path,label,kind\na.jpg,x,y\n"))
    assert "'label'" not in (caught.value.remedy or "")
