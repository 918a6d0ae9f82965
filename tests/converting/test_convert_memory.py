"""How many encoded images a conversion holds at once: those being written, whatever the size of a file."""

import pyarrow.parquet as pq
import pytest
from conversions import image_set

from kinsight.converting import convert, forms, part

COUNT = 40


class Tracked(bytes):
    """An encoded image whose lifetime is counted."""

    alive = peak = 0

    def __new__(cls, data):
        cls.alive += 1
        cls.peak = max(cls.peak, cls.alive)
        return super().__new__(cls, data)

    def __del__(self):
        type(self).alive -= 1


@pytest.fixture(autouse=True)
def tracked(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    prepare = part.prepare

    def prepared(*arguments):
        found = prepare(*arguments)
        return found._replace(data=Tracked(found.data))

    monkeypatch.setattr(part, "prepare", prepared)
    Tracked.alive = Tracked.peak = 0
    yield
    assert Tracked.alive == 0


def spec(tmp_path, to):
    listed = image_set(tmp_path / "in", COUNT)
    return {"data": {"path": str(listed)}, "output": str(tmp_path / "out"), "workers": 0, "to": to}


@pytest.mark.parametrize(
    "to",
    [
        {"kind": "tfrecord"},
        {"kind": "shards"},
        {"kind": "image-list", "copy_images": True},
        {"kind": "image-list"},
    ],
)
def test_one_after_the_other(tmp_path, to):
    convert(spec(tmp_path, to))
    assert 1 <= Tracked.peak <= 3  # of the 40 in a file: one written, one being read


def test_parquet_by_groups_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "_GROUP_BYTES", 4000)
    out = convert(spec(tmp_path, {"kind": "parquet"}) | {"shuffle": False})
    file = pq.ParquetFile(f"{out}/train_00000.parquet")
    rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert sum(rows) == COUNT and len(rows) > 3
    assert Tracked.peak <= max(rows) + 3
    assert file.read()["name"].to_pylist() == [f"{i} é.jpg" for i in range(COUNT)]
