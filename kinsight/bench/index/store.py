"""The folder of a bench: sets, built indexes, settings found, measurements, each done once.

sets/SET/                         see `sets`
built/SET/SYSTEM/KEY-SEED/        an index as the system writes it, and built.json
shared/SET/                       what builds of a system share
tuned/SET/SYSTEM/KEY.json         what was found on learn queries with one way of building
measured/SET/...json              what was measured on test queries
logs/                             what the processes say
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinsight import progress, storage
from kinsight.bench.index.sets import BenchSet
from kinsight.bench.index.store_key import key_of
from kinsight.bench.index.system import LARGE, Settings, Task
from kinsight.bench.index.worker import Worker
from kinsight.specs.bench_index import BenchIndex


@dataclass(frozen=True)
class Store:
    """root: the bench's folder."""

    root: Path

    def task(self, data: BenchSet) -> Task:
        shared = self.root / "shared" / data.name
        shared.mkdir(parents=True, exist_ok=True)
        return Task(data.folder, shared, data.rows, data.dim, data.has_log)

    def worker(self, system: str, data: BenchSet, threads: int, queries: str) -> Worker:
        """A process that may read the learn queries or the test queries."""
        log = self.root / "logs" / f"{data.name}-{system}-{queries}-{threads}.log"
        return Worker(system, self.task(data), threads, queries, log)

    def built(self, system: str, data: BenchSet, build: Settings, seed: int) -> Path:
        return self.root / "built" / data.name / system / f"{key_of(build)}-{seed}"

    def ensure_built(self, system: str, data: BenchSet, build: Settings, seed: int, threads: int) -> None:
        """Build what is not there, in a process of its own, which sees no test queries."""
        place = self.built(system, data, build, seed)
        if not (place / "built.json").exists():
            shutil.rmtree(place, ignore_errors=True)
            with self.worker(system, data, threads, "learn") as worker:
                worker.ask("build", build=build, seed=seed, place=str(place))

    def load(self, worker: Worker, system: str, data: BenchSet, build: Settings, seed: int) -> dict[str, float]:
        """Have a process read an index that is built: mb, of its files; build_s and build_peak_mb, what it took."""
        place = self.built(system, data, build, seed)
        return worker.ask("load", build=build, place=str(place)) | json.loads((place / "built.json").read_text())

    def once(self, place: Path, again: bool, made: Callable[[], Any]) -> Any:
        """What is in the JSON file, or what is made now and written there."""
        if place.exists() and not again:
            return json.loads(place.read_text())
        value = progress.clean(made())
        place.parent.mkdir(parents=True, exist_ok=True)
        storage.write_text(place, json.dumps(value, indent=1) + "\n")
        return value


def seeds_of(spec: BenchIndex, data: BenchSet) -> list[int]:
    """Seeds that are measured: of a large set the first alone."""
    return spec.seeds[:1] if data.rows > LARGE else spec.seeds
