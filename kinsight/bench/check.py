"""What `data check` finds of faults planted into a real set, and what it finds besides.

A fifth of the images is put aside as a validation set. Then copies of images to train on (files as they are, encoded
anew, cropped) and of validation images are written to a scratch folder and listed among the data, and labels of others
are swapped. Encoded anew: JPEG at quality 40 to 95, 0.5 to 1.2 times the size, half of them at brightness 0.75 to 1.3.
Crops keep 3/4 to 19/20 of each side, at any place. Leaks are a third each of files, files encoded anew, and crops.

Recall: planted ones found. Precision: planted ones among all that the check names. What it names already before
anything is planted counts against it here, though much of it is real: the set is checked as it is, too.
"""

import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table

from kinsight import progress, storage
from kinsight.checking import CheckResult, check
from kinsight.checking.look import upright
from kinsight.data import Records, read_records
from kinsight.data.reading import read_image
from kinsight.data.sources.image_list import format_line
from kinsight.errors import DataError
from kinsight.specs.bench import BenchCheck
from kinsight.specs.check import Finding

Row = tuple[str, str]
"""(address, class name)."""
_SHARE = 0.2  # of the images, put aside as validation


@dataclass
class Planted:
    """The lists, and which rows of `data` hold which fault."""

    data: list[Row]
    validation: list[Row]
    faults: dict[str, list[int]]


def run(spec: BenchCheck) -> dict[str, Any]:
    """Plant, check, print a table, return the figures. Raises DataError where the set is too small."""
    records = read_records(spec.data)
    with tempfile.TemporaryDirectory(prefix="kinsight-bench-") as scratch:
        before = plant(records, spec, Path(scratch), each=0)
        planted = plant(records, spec, Path(scratch), each=spec.each)
        natural, _, _ = _check(spec, before, Path(scratch, "before"))
        found, seconds, peak_mb = _check(spec, planted, Path(scratch, "planted"))
        rows = score(planted, found, natural, swaps=spec.bundle is not None)
    results = {
        "images": len(planted.data) + len(planted.validation),
        "seconds": seconds,
        "peak_mb": peak_mb,
        "workers": spec.workers,
        "bundle": spec.bundle,
        "kinds": rows,
    }
    Console().print(_table(spec, results))
    return results


def plant(records: Records, spec: BenchCheck, scratch: Path, *, each: int) -> Planted:
    """Split the set and plant `each` faults of every kind. The same seed splits alike, whatever is planted."""
    if len(records) < 10 * max(each, 1):
        raise DataError(
            "bench.too-few", f"{len(records)} images", field="data", remedy="name a larger set, or lower each"
        )
    rng = np.random.default_rng(spec.seed)
    order = rng.permutation(len(records))
    held = int(_SHARE * len(records))
    rows = [(records.uri(i), records.class_names[records.labels(i)[0]]) for i in range(len(records))]
    validation, data = [rows[i] for i in order[:held]], [rows[i] for i in order[held:]]
    folder = scratch / "files"
    folder.mkdir(exist_ok=True)
    chosen = rng.permutation(len(data))[: 4 * each].reshape(4, each)
    faults: dict[str, list[int]] = {}
    ways: list[tuple[str, list[Row], Sequence[Callable[[Image.Image, np.random.Generator], bytes] | None]]] = [
        ("copies", [data[i] for i in chosen[0]], (None,)),
        ("encoded anew", [data[i] for i in chosen[1]], (encoded_anew,)),
        ("crops", [data[i] for i in chosen[2]], (cropped,)),
        ("leaks", [validation[i] for i in rng.permutation(held)[:each]], (None, encoded_anew, cropped)),
    ]
    for kind, originals, how in ways:
        faults[kind] = []
        for number, (uri, label) in enumerate(originals):
            change = how[number % len(how)]
            image = read_image(uri)
            copy = image if change is None else change(upright(image), rng)
            suffix = Path(uri).suffix if change is None else ".jpg"
            path = folder / f"{kind.replace(' ', '-')}-{number}{suffix}"
            path.write_bytes(copy)
            faults[kind].append(len(data))
            data.append((str(path), label))
    faults["label swaps"] = []
    names = sorted({label for _, label in rows})
    for i in chosen[3].tolist():
        others = [name for name in rng.choice(names, 3).tolist() if name != data[i][1]]
        data[i] = (data[i][0], others[0])
        faults["label swaps"].append(i)
    return Planted(data, validation, faults)


def encoded_anew(image: Image.Image, rng: np.random.Generator) -> bytes:
    """A JPEG copy of another size, quality, and often brightness."""
    scale = rng.uniform(0.5, 1.2)
    size = (max(24, round(image.width * scale)), max(24, round(image.height * scale)))
    copy = image.resize(size, Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        copy = ImageEnhance.Brightness(copy).enhance(rng.uniform(0.75, 1.3))
    return _jpeg(copy, int(rng.integers(40, 96)))


def cropped(image: Image.Image, rng: np.random.Generator) -> bytes:
    """A JPEG of a part of the image."""
    width, height = (round(side * share) for side, share in zip(image.size, rng.uniform(0.75, 0.95, 2), strict=True))
    left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    return _jpeg(image.crop((left, top, left + width, top + height)), int(rng.integers(60, 96)))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _check(spec: BenchCheck, planted: Planted, folder: Path) -> tuple[CheckResult, float, float]:
    """The check's result, its seconds, and the peak of this process's memory and its largest child's, in MB."""
    folder.mkdir()
    settings: dict[str, Any] = {"output": str(folder / "check"), "workers": spec.workers, "pictures": 8}
    for name, rows in (("data", planted.data), ("validation", planted.validation)):
        path = folder / f"{name}.txt"
        storage.write_text(path, "".join(format_line(uri, [f"c {label}"]) + "\n" for uri, label in rows))
        settings[name] = {"path": str(path)}
    if spec.bundle is not None:
        settings["bundle"] = spec.bundle
    started = time.perf_counter()
    result = check(settings)
    return result, time.perf_counter() - started, _peak_mb()


def score(planted: Planted, found: CheckResult, natural: CheckResult, *, swaps: bool) -> list[dict[str, Any]]:
    """A row per kind: planted, found of them, named in all, and named before anything was planted."""
    near, exact = "encoded", "same"
    kinds: list[tuple[str, tuple[str, ...], tuple[Finding, ...], str]] = [
        ("copies", ("copies",), ("duplicates", "conflicts"), exact),
        ("encoded anew", ("encoded anew",), ("duplicates", "conflicts"), near),
        ("crops", ("crops",), ("duplicates", "conflicts"), near),
        ("near copies", ("encoded anew", "crops"), ("duplicates", "conflicts"), near),
        ("leaks", ("leaks",), ("leaks",), ""),
    ]
    if swaps:
        kinds.append(("label swaps", ("label swaps",), ("mislabelled",), ""))
    rows = []
    for title, names, findings, word in kinds:
        truth = {i for name in names for i in planted.faults[name]}
        named = _named(found, findings, word)
        before = _named(natural, findings, word)
        hits = truth & named
        # rows of one near kind cannot be told from the other's: both are right
        right = {i for name in ("encoded anew", "crops") for i in planted.faults[name]} if word == near else truth
        row = {
            "kind": title,
            "planted": len(truth),
            "found": len(hits),
            "recall": len(hits) / max(1, len(truth)),
            "named": len(named),
            "precision": len(named & right) / max(1, len(named)),
            "named_before": len(before),
            "precision_beyond_before": len(named & right) / max(1, len(named - before)),
        }
        if title == "label swaps":
            order = [one.image for one in found.findings.rows["mislabelled"]][: len(truth)]
            row["precision_of_surest"] = len(truth & set(order)) / max(1, len(truth))
        rows.append(row)
    return rows


def _named(result: CheckResult, findings: Sequence[Finding], word: str) -> set[int]:
    data = result.findings.joint.start
    rows = [row for finding in findings for row in result.findings.rows[finding] if row.image < data]
    return {row.image for row in rows if row.detail.startswith(word)}


def _peak_mb() -> float:
    unit = 1e6 if sys.platform == "darwin" else 1e3
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    progress.say(f"memory      {own / unit:,.0f} MB, and at most {child / unit:,.0f} MB in each process that reads")
    return (own + child) / unit


def _table(spec: BenchCheck, results: dict[str, Any]) -> Table:
    table = Table(
        title=f"Planted into {results['images']:,} images; {results['seconds']:.0f} s with {spec.workers} processes"
    )
    for column in ("fault", "planted", "found", "recall", "named", "precision", "named before", "of the rest"):
        table.add_column(column, justify="right")
    for row in results["kinds"]:
        table.add_row(
            row["kind"],
            str(row["planted"]),
            str(row["found"]),
            f"{row['recall']:.3f}",
            str(row["named"]),
            f"{row['precision']:.3f}",
            str(row["named_before"]),
            f"{row['precision_beyond_before']:.3f}",
        )
    surest = [row["precision_of_surest"] for row in results["kinds"] if "precision_of_surest" in row]
    caption = "named before: already in the set as it is; of the rest: precision without those"
    table.caption = caption + (f"; the {spec.each} surest wrong labels: {surest[0]:.3f} planted" if surest else "")
    return table
