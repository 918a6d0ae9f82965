"""Retrieval metrics: Kinsight's against pytorch-metric-learning's AccuracyCalculator on faiss.

Both compute Recall@1..100, R-precision and MAP@R of the same vectors, leave-one-out. The peer's calculator has no
Recall@k beyond 1: it gets one, as its documentation describes, from the same neighbours. Every measurement runs in a
process of its own, sides in turn; extra memory is the peak above what the process holds once modules and data are
loaded and a small warm-up has run.
Usage of one side: `python -m kinsight.bench.evaluate ours|peer FOLDER THREADS`, JSON on the last line.
"""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kinsight import progress
from kinsight.errors import RunError
from kinsight.metrics import retrieval_metrics
from kinsight.specs.bench import BenchEvaluate

KS = range(1, 101)
SAME = 1e-4
"""Largest difference called the same number: six of 60,000 queries. The peer's float32 distances decide near ties by
rounding, ours are exact."""
WARMUP_ITEMS = 6000


def run(spec: BenchEvaluate) -> dict[str, Any]:
    """Measure, print a table, return the figures. Raises RunError without the peer or where a side fails."""
    for module in ("pytorch_metric_learning", "faiss"):
        if importlib.util.find_spec(module) is None:
            raise RunError(
                "bench.peer", f"the module {module} is not installed", remedy="install it: uv sync --extra bench"
            )
    rows = []
    with progress.task("bench evaluate", len(spec.classes) * len(spec.threads) * spec.repeats * 2, "runs") as task:
        for classes in spec.classes:
            with tempfile.TemporaryDirectory(prefix="kinsight-bench-") as scratch:
                make_vectors(Path(scratch), spec.items, spec.dim, classes, spec.seed)
                for threads in spec.threads:
                    rows.append(_measure(spec, classes, Path(scratch), threads, task))
    results = {"items": spec.items, "dim": spec.dim, "processes": 1, "repeats": spec.repeats, "rows": rows}
    Console().print(_table(spec, rows))
    return results


def make_vectors(folder: Path, items: int, dim: int, classes: int, seed: int) -> None:
    """emb.npy and label.npy: unit vectors around class centres, so noisy that Recall@1 comes out near 0.7."""
    generator = torch.Generator().manual_seed(seed)
    centre_CD = torch.randn(classes, dim, generator=generator)
    label_N = torch.arange(items) % classes
    # with more items of its class to meet, a query succeeds more easily; with fewer dimensions, less so
    base = 2.2 + 0.8 * np.log(max(1.0, items / classes / 4)) / np.log(25)
    noise = np.sqrt(max(0.05, (1 + base**2) * np.sqrt(dim / 512) - 1))
    emb_ND = centre_CD[label_N].add_(torch.randn(items, dim, generator=generator), alpha=float(noise))
    emb_ND = torch.nn.functional.normalize(emb_ND)
    np.save(folder / "emb.npy", emb_ND.numpy())
    np.save(folder / "label.npy", label_N.numpy())


def _measure(spec: BenchEvaluate, classes: int, folder: Path, threads: int, task: progress.Task) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for _ in range(spec.repeats):
        for side, found in runs.items():
            found.append(_one(side, folder, threads))
            task.advance(1)
    ours, peer = runs["ours"], runs["peer"]
    names = ours[0]["metrics"].keys()
    difference = max(abs(a["metrics"][n] - b["metrics"][n]) for a, b in zip(ours, peer, strict=True) for n in names)
    row: dict[str, Any] = {"classes": classes, "threads": threads}
    for key in ("seconds", "cpu_seconds", "extra_mb"):
        row[f"ours_{key}"] = statistics.median(found[key] for found in ours)
        row[f"peer_{key}"] = statistics.median(found[key] for found in peer)
        row[f"{key}_ratio"] = statistics.median(b[key] / max(a[key], 1e-9) for a, b in zip(ours, peer, strict=True))
    return row | {
        "largest_difference": difference,
        "same_numbers": difference <= SAME,
        "recall@1": ours[0]["metrics"]["recall@1"],
        "map@r": ours[0]["metrics"]["map@r"],
        "ours_all": [found["seconds"] for found in ours],
        "peer_all": [found["seconds"] for found in peer],
    }


def _one(side: str, folder: Path, threads: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "kinsight.bench.evaluate", side, str(folder), str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RunError("bench.side", f"{side} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _table(spec: BenchEvaluate, rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title=f"Recall@1..100, R-precision, MAP@R of {spec.items:,} x {spec.dim} vectors, one process each, "
        f"medians of {spec.repeats}"
    )
    for column in ("classes", "threads", "ours s", "peer s", "times faster", "ours MB", "peer MB", "memory", "numbers"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = "same" if row["same_numbers"] else "DIFFER"
        table.add_row(
            f"{row['classes']:,}",
            str(row["threads"]),
            f"{row['ours_seconds']:.2f}",
            f"{row['peer_seconds']:.2f}",
            f"{row['seconds_ratio']:.2f}",
            f"{row['ours_extra_mb']:.0f}",
            f"{row['peer_extra_mb']:.0f}",
            f"1/{row['extra_mb_ratio']:.1f}",
            f"{numbers} ({row['largest_difference']:.0e})",
        )
    return table


def _ours(emb_ND: Tensor, label_N: Tensor) -> dict[str, float]:
    means = retrieval_metrics(emb_ND, label_N, ks=KS).means
    return {name: value for name, value in means.items() if not name.startswith("cmc")}


def _peer(threads: int) -> Callable[[Tensor, Tensor], dict[str, float]]:
    import faiss
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    faiss.omp_set_num_threads(threads)

    class Calculator(AccuracyCalculator):
        def calculate_recall(self, knn_labels: Tensor, query_labels: Tensor, **_: Any) -> list[float]:
            hit_QK = knn_labels[:, : KS[-1]] == query_labels[:, None]
            return hit_QK.cummax(dim=1).values.double().mean(0).tolist()

        def requires_knn(self) -> list[str]:
            return [*super().requires_knn(), "recall"]

    def measure(emb_ND: Tensor, label_N: Tensor) -> dict[str, float]:
        k = max(KS[-1], int(label_N.bincount().max()) - 1)
        include = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "recall")
        found: dict[str, Any] = Calculator(include=include, k=k, device=torch.device("cpu")).get_accuracy(
            emb_ND, label_N
        )
        recall = {f"recall@{k}": value for k, value in zip(KS, found["recall"], strict=True)}
        return {**recall, "r_precision": found["r_precision"], "map@r": found["mean_average_precision_at_r"]}

    return measure


def _side(side: str, folder: Path, threads: int) -> dict[str, Any]:
    """One measurement in this process."""
    torch.set_num_threads(threads)
    measure = _ours if side == "ours" else _peer(threads)
    emb_ND = torch.from_numpy(np.load(folder / "emb.npy", allow_pickle=False))
    label_N = torch.from_numpy(np.load(folder / "label.npy", allow_pickle=False))
    warm = torch.arange(min(WARMUP_ITEMS, len(emb_ND)))
    measure(emb_ND[warm], warm % (len(warm) // 2))
    before_mb = _reset_peak_mb()
    start, start_cpu = time.perf_counter(), time.process_time()
    metrics = measure(emb_ND, label_N)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    extra_mb = _peak_mb() - before_mb
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "extra_mb": extra_mb, "metrics": metrics}


def _reset_peak_mb() -> float:
    """Memory held now, in MB; the peak counts from here (Linux; elsewhere from the start of the process)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status_mb("VmRSS")
    except OSError:
        return _peak_mb()


def _peak_mb() -> float:
    try:
        return _status_mb("VmHWM")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _status_mb(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(_side(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
