"""Parquet files with images inside: each is read as a range of its file."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tfrecord_files import picture

from kinsight.converting import convert
from kinsight.data import read_records
from kinsight.data.one_image import read_image
from kinsight.errors import DataError
from kinsight.specs.data import Parquet


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))


def table(rows, nested=False):
    images = [picture(i) for i in rows]
    column = pa.array([{"bytes": image, "path": "x"} for image in images]) if nested else pa.array(images)
    return pa.table({"image": column, "label": [i % 3 for i in rows], "more": ["y"] * len(rows)})


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"row_group_size": 7}, {"data_page_size": 500}])
@pytest.mark.parametrize("nested", [False, True])
def test_images_come_back(tmp_path, options, nested):
    for number in range(2):
        rows = range(20 * number, 20 * number + 20)
        path = tmp_path / f"train_{number}.parquet"
        pq.write_table(table(rows, nested), path, compression="NONE", use_dictionary=False, **options)
    for _ in range(2):  # found, then known
        records = read_records(Parquet(path=f"{tmp_path}/train_*.parquet"))
        assert [read_image(records.uri(i)) for i in range(40)] == [picture(i) for i in range(40)]
        assert [records.labels(i) for i in range(3)] == [[0], [1], [2]] and "more" in records.table.column_names
    one = read_records(Parquet(path=f"{tmp_path}/train_1.parquet"))
    assert len(one) == 20 and one.place(3).startswith(f"{tmp_path}/train_1.parquet#bytes=")


def test_what_is_no_piece_of_its_file_is_refused(tmp_path):
    for options, message in (
        ({}, "the images have a dictionary"),
        ({"use_dictionary": False}, r"compression \(SNAPPY\)"),
    ):
        pq.write_table(table(range(4)), tmp_path / "a.parquet", **options)
        with pytest.raises(DataError, match=message):
            read_records(Parquet(path=str(tmp_path / "a.parquet")))
    rows = pa.table({"image": pa.array([picture(0), None]), "label": [0, 1]})
    pq.write_table(rows, tmp_path / "a.parquet", compression="NONE", use_dictionary=False)
    with pytest.raises(DataError, match=r"a\.parquet row 2: has no image"):
        read_records(Parquet(path=str(tmp_path / "a.parquet")))
    with pytest.raises(DataError, match="no file matches"):
        read_records(Parquet(path=f"{tmp_path}/train_*.parquet"))


def test_a_conversion_into_parquet_is_a_source(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(6):
        (tmp_path / "in" / f"{i}.jpg").write_bytes(picture(i))
    (tmp_path / "in" / "list.txt").write_text("".join(f"{i}.jpg c{i % 2}\n" for i in range(6)))
    data = {"path": str(tmp_path / "in/list.txt")}
    out = convert(
        {"data": data, "output": str(tmp_path / "out"), "to": {"kind": "parquet"}, "per_file": 4, "workers": 0}
    )
    records = read_records(Parquet(path=f"{out}/train_*.parquet"))
    assert sorted(read_image(records.uri(i)) for i in range(6)) == sorted(picture(i) for i in range(6))
    assert records.class_names == ("c0", "c1")
