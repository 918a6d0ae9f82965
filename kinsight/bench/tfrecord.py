"""`kinsight bench tfrecord`: images and labels read in the order of a file, in records a second.

All sides give the encoded image as bytes and the label as a number, from a local file that is in the page cache, in one
thread of one process. Ours compares both checksums of every record; the `tfrecord` package compares none, and tar, that
WebDataset reads, has none of data. The fourth column reads the same images in random order through the index, as
training does: one open, seek and read each.
"""

import importlib
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from kinsight import progress
from kinsight.data.one_image import read_image
from kinsight.data.sources.read import read_records
from kinsight.data.tfrecord import Keys, encode_example, find_shards, frame, read_samples
from kinsight.errors import RunError
from kinsight.specs.bench_tfrecord import BenchTfrecord
from kinsight.specs.data import TFRecord

Pairs = Iterator[tuple[bytes, int]]
_NUM_CLASSES = 100
_PEERS = ("tfrecord", "webdataset")


def run(spec: BenchTfrecord) -> list[dict[str, Any]]:
    """Measure, print a table, return its rows. Raises RunError where sides do not read the same."""
    rows = []
    with progress.task("bench tfrecord", len(spec.bytes) * spec.repeats * 4, "runs") as task:
        for size in spec.bytes:
            with tempfile.TemporaryDirectory(prefix="kinsight-bench-") as folder:
                rows.append(_measure(spec, size, Path(folder), task))
    Console(highlight=False).print(_table(spec, rows))
    return rows


def _measure(spec: BenchTfrecord, size: int, folder: Path, task: progress.Task) -> dict[str, Any]:
    count = max(10, round(spec.mb * 1e6 / size))
    total = _write(folder, count, size, spec.seed)
    sides: dict[str, Callable[[], Pairs]] = {
        "ours": partial(_ours, folder),
        "tfrecord": partial(_tfrecord, folder),
        "webdataset": partial(_webdataset, folder),
        "random": _by_index(folder, count, spec.seed),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(spec.repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            found = sum(len(image) + label for image, label in side())
            seconds[name].append(time.perf_counter() - start)
            if found != total:
                raise RunError("bench.side", f"{name} read something else than was written", field=f"bytes={size}")
            task.advance(1)
    rates = {name: count / statistics.median(found) for name, found in seconds.items()}
    ratios = {f"to_{peer}": rates["ours"] / rates[peer] for peer in _PEERS}
    return {"bytes": size, "records": count, **rates, **ratios}


def _write(folder: Path, count: int, size: int, seed: int) -> int:
    """The same images and labels as TFRecords and as tar; the sum of their lengths and labels."""
    rng = np.random.default_rng(seed)
    with (folder / "a.tfrecord").open("wb") as records, tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(count):
            image, label = rng.bytes(size), number % _NUM_CLASSES
            features = {"image/encoded": image, "image/format": "jpeg", "image/class/label": [label]}
            records.write(frame(encode_example(features)))
            for ending, data in (("jpg", image), ("cls", str(label).encode())):
                about = tarfile.TarInfo(f"{number:08d}.{ending}")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
    return count * size + sum(number % _NUM_CLASSES for number in range(count))


def _ours(folder: Path) -> Pairs:
    (shard,) = find_shards(str(folder / "a.tfrecord"))
    for image, sample in read_samples(shard, Keys(text=None, format=None)):
        yield image, int(sample.labels[0])


def _tfrecord(folder: Path) -> Pairs:
    from tfrecord.reader import tfrecord_loader

    wanted = {"image/encoded": "byte", "image/class/label": "int"}
    rows: Any = tfrecord_loader(str(folder / "a.tfrecord"), None, wanted)
    for row in rows:
        yield row["image/encoded"], int(row["image/class/label"][0])


def _webdataset(folder: Path) -> Pairs:
    webdataset: Any = importlib.import_module("webdataset")
    for image, label in webdataset.WebDataset(str(folder / "a.tar"), shardshuffle=False).to_tuple("jpg", "cls"):
        yield image, int(label)


def _by_index(folder: Path, count: int, seed: int) -> Callable[[], Pairs]:
    records = read_records(TFRecord(path=str(folder / "a.tfrecord"), text_key=None))
    order = np.random.default_rng(seed).permutation(count).tolist()
    label_N = [int(records.class_names[label]) for label in records.label_N]

    def read() -> Pairs:
        for number in order:
            yield read_image(records.uri(number)), label_N[number]

    return read


def _table(spec: BenchTfrecord, rows: list[dict[str, Any]]) -> Table:
    table = Table(
        box=None, pad_edge=False, title=f"records/s, median of {spec.repeats}; 1 process, 1 thread, file in memory"
    )
    for column in ("image bytes", "records", "ours", "tfrecord", "WebDataset", "ratio", "ratio", "ours, random order"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row['bytes']:,}",
            f"{row['records']:,}",
            f"{row['ours']:,.0f}",
            f"{row['tfrecord']:,.0f}",
            f"{row['webdataset']:,.0f}",
            f"{row['to_tfrecord']:.2f}",
            f"{row['to_webdataset']:.2f}",
            f"{row['random']:,.0f}",
        )
    return table
