"""`kinsight bench rerank`: time, memory and results of k-reciprocal re-ranking against the dense published algorithm.

The dense one (`dense_rerank`) keeps a distance and a membership for every pair, as the authors' program does: some 12
bytes per pair at its peak, 43 GB for 60,000 vectors. Both search leave-one-out. Every measurement runs in a process of
its own, sides in turn; extra memory is the peak above what the process holds once modules and data are loaded.
Usage of one side: `python -m kinsight.bench.rerank ours|dense FOLDER THREADS K1 K2 WEIGHT DEPTH`, JSON last.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from kinsight import progress
from kinsight.bench.dense_rerank import dense_rerank
from kinsight.bench.evaluate import _peak_mb, _reset_peak_mb, make_vectors
from kinsight.errors import RunError
from kinsight.neighbors import k_reciprocal
from kinsight.specs.bench_rerank import BenchRerank


def run(spec: BenchRerank) -> list[dict[str, Any]]:
    """Measure, print a table, return its rows. Raises RunError where a side fails."""
    plan = [(items, True, spec.repeats) for items in spec.both] + [(items, False, 1) for items in spec.alone]
    total = len(spec.threads) * sum(repeats * (1 + both) for _, both, repeats in plan)
    rows = []
    with progress.task("bench rerank", total, "runs") as task:
        for items, both, repeats in plan:
            with tempfile.TemporaryDirectory(prefix="kinsight-bench-") as scratch:
                make_vectors(Path(scratch), items, spec.dim, max(2, items // spec.per_class), spec.seed)
                for threads in spec.threads:
                    rows.append(_measure(spec, items, both, repeats, Path(scratch), threads, task))
    Console(highlight=False).print(_table(spec, rows))
    return rows


def _measure(
    spec: BenchRerank, items: int, both: bool, repeats: int, folder: Path, threads: int, task: progress.Task
) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"ours": []} | ({"dense": []} if both else {})
    for _ in range(repeats):
        for side, found in runs.items():
            found.append(_one(spec, side, folder, threads))
            task.advance(1)
    row: dict[str, Any] = {"items": items, "threads": threads}
    for side, found in runs.items():
        for key in ("seconds", "extra_mb"):
            row[f"{side}_{key}"] = statistics.median(one[key] for one in found)
        row[f"{side}_recall@1"] = found[0]["recall@1"]
    row["plain_recall@1"] = runs["ours"][0]["plain_recall@1"]
    if both:
        row["same_order"] = _same(np.load(folder / "ours.npy"), np.load(folder / "dense.npy"))
    return row


def _same(ours_QK: np.ndarray, dense_QK: np.ndarray) -> float:
    """Share of places with the same item."""
    return float((ours_QK == dense_QK).mean())


def _one(spec: BenchRerank, side: str, folder: Path, threads: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    numbers = [str(value) for value in (threads, spec.k1, spec.k2, spec.weight, spec.depth)]
    command = [sys.executable, "-m", "kinsight.bench.rerank", side, str(folder), *numbers]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RunError("bench.side", f"{side} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _table(spec: BenchRerank, rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, title=f"first {spec.depth} re-ranked, vectors of {spec.dim}; 1 process")
    for column in ("items", "threads", "s", "dense s", "MB", "dense MB", "same", "R@1 plain", "R@1", "R@1 dense"):
        table.add_column(column, justify="right")
    for row in rows:
        both = "dense_seconds" in row
        table.add_row(
            f"{row['items']:,}",
            str(row["threads"]),
            f"{row['ours_seconds']:.1f}",
            f"{row['dense_seconds']:.1f}" if both else "",
            f"{row['ours_extra_mb']:,.0f}",
            f"{row['dense_extra_mb']:,.0f}" if both else "",
            f"{100 * row['same_order']:.2f} %" if both else "",
            f"{row['plain_recall@1']:.4f}",
            f"{row['ours_recall@1']:.4f}",
            f"{row['dense_recall@1']:.4f}" if both else "",
        )
    return table


def _side(side: str, folder: Path, threads: int, k1: int, k2: int, weight: float, depth: int) -> dict[str, Any]:
    """One measurement in this process; leaves the order found beside the vectors."""
    torch.set_num_threads(threads)
    emb_ND = torch.from_numpy(np.load(folder / "emb.npy", allow_pickle=False))
    label_N = torch.from_numpy(np.load(folder / "label.npy", allow_pickle=False))
    _order(side, emb_ND[:500], min(k1, 499), k2, weight, min(depth, 499))
    before_mb = _reset_peak_mb()
    start = time.perf_counter()
    index_NK, first_N = _order(side, emb_ND, k1, k2, weight, depth)
    seconds = time.perf_counter() - start
    extra_mb = _peak_mb() - before_mb
    np.save(folder / f"{side}.npy", index_NK.numpy())
    found, plain = ((label_N[top_N] == label_N).double().mean() for top_N in (index_NK[:, 0], first_N))
    return {"seconds": seconds, "extra_mb": extra_mb, "recall@1": float(found), "plain_recall@1": float(plain)}


def _order(
    side: str, emb_ND: torch.Tensor, k1: int, k2: int, weight: float, depth: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the first `depth` rows in the new order, the first row of the plain one)."""
    if side == "dense":
        index_NK, first_N = dense_rerank(emb_ND.numpy(), k1, k2, weight, depth)
        return torch.from_numpy(index_NK), torch.from_numpy(first_N)
    found = k_reciprocal(emb_ND, k1=k1, k2=k2, weight=weight, depth=depth)
    was_first_N1 = (found.place_QK[:, :1] - 1).long()
    return found.index_QK, found.index_QK.gather(1, was_first_N1).squeeze(1)


if __name__ == "__main__":
    print(
        json.dumps(
            _side(
                sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]),
                float(sys.argv[6]), int(sys.argv[7]),
            )
        )
    )  # fmt: skip
