"""A process that builds and searches one system, told what to do by lines of JSON; and the other end of the line.

Usage: `python -m kinsight.bench.index.worker SYSTEM THREADS`, a line in, a line out. A process for tuning is given the
learn queries alone.

Shapes: Q queries, D dimensions, K results.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from kinsight.bench.index.system import System, Task, peak_mb, steps
from kinsight.bench.index.systems import system
from kinsight.bench.index.truth import K, recall_at_10
from kinsight.errors import RunError

_SECONDS = 0.4  # what is searched in less is searched again


class Worker:
    """The other end: one process at work. queries: `learn` or `query`."""

    def __init__(self, system: str, task: Task, threads: int, queries: str, log: Path) -> None:
        environment = {
            **os.environ,
            **{f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")},
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        self._system, self._log = system, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._errors = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kinsight.bench.index.worker", system, str(threads)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        told = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(task).items()}
        self.ask("task", task=told, queries=queries)

    def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """The answer. Raises RunError with the process's last words where it has ended."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **words}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            tail = self._log.read_text()[-2000:].strip()
            raise RunError(
                "bench.side", f"{self._system} failed at {do} {words}: {tail or f'exit {self._process.returncode}'}"
            )
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Side:
    """What the process does."""

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._threads = name, threads
        self._system: System | None = None

    def task(self, task: dict[str, Any], queries: str) -> dict[str, Any]:
        task |= {key: Path(task[key]) for key in ("folder", "work")}
        self._task = Task(**task)
        self._query_QD = np.load(self._task.folder / f"{queries}.npy", allow_pickle=False)
        self._near_QM = np.load(self._task.folder / f"{queries}_near.npy", allow_pickle=False)
        self._own_Q = np.load(self._task.folder / "learn_own.npy", allow_pickle=False) if queries == "learn" else None
        if self._own_Q is not None and (self._own_Q < 0).all():
            self._own_Q = None
        return {}

    def build(self, build: Mapping[str, Any], seed: int, place: str) -> dict[str, Any]:
        """Written beside and renamed, the time it took last."""
        folder, beside = Path(place), Path(f"{place}.part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        started = time.perf_counter()
        before = self._new().build(build, seed, beside)
        seconds = time.perf_counter() - started + (before.s if before else 0)
        peak = max(peak_mb(), before.peak_mb if before else 0)
        (beside / "built.json").write_text(json.dumps({"build_s": seconds, "build_peak_mb": peak}))
        beside.rename(folder)
        return {}

    def load(self, build: Mapping[str, Any], place: str) -> dict[str, Any]:
        self._system = None  # memory of the one before goes first
        self._system = self._new()
        self._system.load(build, Path(place))
        files = [path for path in Path(place).rglob("*") if path.is_file() and path.name != "built.json"]
        return {"mb": sum(path.stat().st_size for path in files) / 1e6}

    def search(
        self, effort: int, knob: Mapping[str, Any], count: bool, queries: int | None = None, seconds: float = _SECONDS
    ) -> dict[str, Any]:
        """Recall, and seconds a query: all queries, or the first ones, at once; again until `seconds` are over."""
        assert self._system is not None
        query_QD = self._query_QD[:queries]
        k = K if self._own_Q is None else K + 1
        passed, times = 0.0, 0
        found_QK = np.empty(0)
        while not times or (passed < seconds and times < 50):
            started = time.perf_counter()
            found_QK = self._system.search(query_QD, k, effort, knob)
            passed += time.perf_counter() - started
            times += 1
        own_Q = None if self._own_Q is None else self._own_Q[:queries]
        recall = recall_at_10(found_QK, self._near_QM[:queries], own_Q)
        counts = self._system.counts(query_QD, k, effort, knob) if count else None
        return {
            "recall": recall,
            "s": passed / times / len(query_QD),
            "counts": None if counts is None else asdict(counts),
        }

    def lists(self, most: int, targets: list[float], shares: list[float]) -> dict[str, Any]:
        """Entries scanned at a recall, and recall at a share of the rows scanned, whatever a list holds of a vector."""
        import torch  # three seconds that the peers' processes save

        from kinsight.partition.measure import curve, imbalance, sizes

        assert self._system is not None
        order_QP, list_NC = self._system.routes(self._query_QD, most)
        number = max(int(order_QP.max()), int(list_NC.max())) + 1
        probes = steps(1, most)
        near_QK = torch.from_numpy(self._near_QM[:, :K].astype(np.int64))
        member_NC = torch.from_numpy(list_NC)
        found = curve(torch.from_numpy(order_QP), member_NC, near_QK, probes, number)
        first = curve(torch.from_numpy(order_QP), member_NC, near_QK[:, :1], probes, number)
        entries = {f"entries@{target:g}": found.scanned_for(target) for target in targets}
        recalls = {f"recall@{100 * share:g}%": found.recall_at(share * self._task.rows) for share in shares}
        firsts = {f"recall@1, {100 * share:g}%": first.recall_at(share * self._task.rows) for share in shares}
        shape = {"stored": float((list_NC >= 0).sum() / len(list_NC)), "imbalance": imbalance(sizes(member_NC, number))}
        return {**entries, **recalls, **firsts, **shape}

    def _new(self) -> System:
        return system(self._name)(self._task, self._threads)


def main(words: list[str], lines: IO[str], out: IO[str]) -> None:
    """Until the lines end."""
    side = _Side(words[0], int(words[1]))
    for line in lines:
        told = json.loads(line)
        answer = getattr(side, told.pop("do"))(**told)
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    main(sys.argv[1:], sys.stdin, answers)
