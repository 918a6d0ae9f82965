"""`kinsight bench report`: time, memory and size of the report and of its map alone.

Vectors are clusters drawn by seed; the pictures are those below a folder, repeated as often as needed. Each size is
measured in a process of its own, so that its peak memory is its own.
"""

import contextlib
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from kinsight import storage
from kinsight.errors import SpecError
from kinsight.evaluation.measure import measure
from kinsight.evaluation.report import evaluated
from kinsight.evaluation.sides import Side
from kinsight.reports.evaluated import Report
from kinsight.reports.layout import neighbour_map
from kinsight.reports.page import write_report
from kinsight.specs.bench import BenchReport
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.report import ReportSpec

_COLUMNS = {
    "map": "map s", "map_cpu": "map CPU s", "report": "report s", "report_cpu": "report CPU s", "before": "before MB",
    "map_peak": "map peak MB", "peak": "report peak MB", "page": "page MB",
}  # fmt: skip
_PER_CLASS = 60
_SPREAD = 1.1  # of a cluster, where the centres' coordinates have deviation 1: most queries find their class


def run(spec: BenchReport) -> None:
    """Measure and print a table. Raises SpecError where the folder has no images."""
    place = storage.Address.parse(spec.images)
    uris = sorted(str(place.child(entry.relative)) for entry in storage.list_files(place) if _is_image(entry.relative))
    if not uris:
        raise SpecError(
            "bench.no-images", "holds no image", field=f"images={spec.images}", remedy="name another folder"
        )
    table = Table(box=None, pad_edge=False, title=f"{spec.threads} thread(s), 1 process, vectors of {spec.dim}")
    for title in (
        "items",
        "map s",
        "map CPU s",
        "report s",
        "report CPU s",
        "before MB",
        "map peak MB",
        "report peak MB",
        "page MB",
    ):
        table.add_column(title, justify="right")
    context = multiprocessing.get_context("spawn")
    for items in spec.items:
        with context.Pool(1) as pool:
            found = pool.apply(_measure, (spec, items, uris))
        shown = (
            f"{found[name]:,.1f}"
            for name in ("map", "map_cpu", "report", "report_cpu", "before", "map_peak", "peak", "page")
        )
        table.add_row(f"{items:,}", *shown)
    Console(highlight=False).print(table)


def _is_image(name: str) -> bool:
    return name.lower().endswith((".png", ".jpg", ".jpeg"))


def _measure(spec: BenchReport, items: int, uris: list[str]) -> dict[str, float]:
    torch.set_num_threads(spec.threads)
    side = _side(items, spec, uris)
    settings = EvaluateSpec(output="bench", embeddings="bench", bootstrap=0, seed=spec.seed)
    found = evaluated(settings, side, None, measure(settings, side, None, torch.device("cpu")))
    before = _new_peak()
    clock = _Clock()
    neighbour_map(side.vector_ND, "cosine", seed=spec.seed, device=torch.device("cpu"))
    of_map, map_peak = clock.read(), _peak()
    _new_peak()
    with tempfile.TemporaryDirectory(prefix="kinsight-") as folder:
        clock = _Clock()
        page = ReportSpec(map_items=max(10, items), map_pictures_mb=spec.pictures_mb)
        write_report(folder, Report("bench", evaluated=found), page)
        of_report = clock.read()
        size = (Path(folder) / "report/index.html").stat().st_size / 1e6
    named: dict[str, Any] = {"before": before, "map_peak": map_peak, "peak": _peak(), "page": size}
    return named | {"map": of_map[0], "map_cpu": of_map[1], "report": of_report[0], "report_cpu": of_report[1]}


def _side(items: int, spec: BenchReport, uris: list[str]) -> Side:
    generator = torch.Generator().manual_seed(spec.seed)
    classes = max(2, items // _PER_CLASS)
    label_N = torch.randint(classes, (items,), generator=generator)
    centre_CD = torch.randn(classes, spec.dim, generator=generator)
    vector_ND = torch.nn.functional.normalize(
        centre_CD[label_N] + _SPREAD * torch.randn(items, spec.dim, generator=generator), dim=1
    )
    order = torch.randperm(max(items, len(uris)), generator=generator)[:items].tolist()
    chosen = pa.chunked_array([pa.array([uris[number % len(uris)] for number in order])])
    names = tuple(f"class {number:05d}" for number in range(classes))
    return Side(vector_ND, label_N, chosen, np.arange(items), names, [], None)


class _Clock:
    """Seconds on the wall and of the processor since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def _new_peak() -> float:
    """Begin to count the peak anew, where the system can (Linux); memory held now, in MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """The most memory this process has held, in MB."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
