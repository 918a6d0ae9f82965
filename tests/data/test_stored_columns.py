"""Further columns of a source travel with its embeddings."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import kinsight
from kinsight.data import load_embeddings


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_of_the_source_are_kept(tmp_path, kind):
    rows = [{"image": f"{n}.png", "label": f"c{n % 2}", "price": 10 * n, "title": f"thing <{n}>"} for n in range(5)]
    for row in rows:
        Image.new("L", (16, 16), 40 * rows.index(row)).save(tmp_path / row["image"])
    (tmp_path / "3.png").write_bytes(b"broken")
    if kind == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (tmp_path / "list.csv").write_text("\n".join(lines))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")
    kinsight.embed(
        {
            "model": {"backbone": "conv4", "pretrained": None},
            "image": {"image_size": 28, "color": "gray"},
            "data": {"path": str(tmp_path / f"list.{kind}"), "format": kind},
            "output": str(tmp_path / "out"),
            "workers": 0,
            "max_broken": 0.5,
        }
    )
    found = load_embeddings(tmp_path / "out")
    assert found.columns["id"].to_pylist() == [0, 1, 2, 4]
    assert found.columns["title"].to_pylist() == ["thing <0>", "thing <1>", "thing <2>", "thing <4>"]
    assert [str(value) for value in found.columns["price"].to_pylist()] == ["0", "10", "20", "40"]
    assert [found.class_names[row[0]] for row in found.columns["labels"].to_pylist()] == ["c0", "c1", "c0", "c0"]
