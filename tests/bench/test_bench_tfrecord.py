"""The bench of TFRecord reading runs, and its sides read the same."""

import pytest

from kinsight.bench.tfrecord import run
from kinsight.specs.bench_tfrecord import BenchTfrecord


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # WebDataset leaves its file open
def test_all_sides_read_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path))
    (row,) = run(BenchTfrecord(bytes=[500], mb=0.1, repeats=1))
    assert row["records"] == 200 and all(row[name] > 0 for name in ("ours", "tfrecord", "webdataset", "random"))


@pytest.mark.parametrize("size", [0, -5, 63])
def test_sizes_that_are_no_image(size):
    with pytest.raises(ValueError, match=r"bytes\.0"):
        BenchTfrecord(bytes=[size])
