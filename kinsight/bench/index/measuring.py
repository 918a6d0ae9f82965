"""The systems on the test queries, with the settings they were given, in turn in one run; and what they cost."""

import statistics
from typing import Any

from kinsight import progress
from kinsight.bench.index.choosing import Chosen
from kinsight.bench.index.sets import BenchSet
from kinsight.bench.index.store import Store, seeds_of
from kinsight.bench.index.systems import system
from kinsight.bench.index.worker import Worker
from kinsight.specs.bench_index import BenchIndex

_AROUND = (-9, -6, -3, 0, 3, 6, 9)  # efforts of a curve, counted from the one that was chosen


def measure(
    spec: BenchIndex, store: Store, data: BenchSet, chosen: Chosen, target: float, threads: int
) -> list[dict[str, Any]]:
    """A row for each system, and for further seeds of those that learn.

    Systems take turns; `all_s` has the seconds a query of each turn, so that ratios of the same turn can be told.
    """
    rows: list[dict[str, Any]] = []
    for number, seed in enumerate(seeds_of(spec, data)):
        taken = {name: kept for name, kept in chosen.items() if number == 0 or system(name).seeded}
        rows += _in_turn(spec, store, data, taken, threads, seed)
    return [row | {"target": target} for row in rows]


def _in_turn(
    spec: BenchIndex, store: Store, data: BenchSet, chosen: Chosen, threads: int, seed: int
) -> list[dict[str, Any]]:
    workers: dict[str, Worker] = {}
    rows: dict[str, dict[str, Any]] = {}
    try:
        for name, kept in chosen.items():
            candidate = kept["candidate"]
            store.ensure_built(name, data, candidate["build"], seed, max(spec.threads))
            workers[name] = store.worker(name, data, threads, "query")
            loaded = store.load(workers[name], name, data, candidate["build"], seed)
            seen = _search(workers[name], candidate, count=True)  # warms up, too
            about = {"system": name, "seed": seed, "threads": threads}
            settings = {key: candidate[key] for key in ("build", "knob", "effort")}
            rows[name] = about | settings | {"learn_recall": candidate["recall"]} | seen | loaded | {"all_s": []}
        with progress.task(f"{data.name}: {threads} threads, seed {seed}", spec.repeats, "turns") as task:
            for _ in range(spec.repeats):
                for name, worker in workers.items():
                    rows[name]["all_s"].append(_search(worker, chosen[name]["candidate"], count=False)["s"])
                task.advance(1)
    finally:
        for worker in workers.values():
            worker.close()
    for row in rows.values():
        row["s"] = statistics.median(row["all_s"])
        row["per_s"] = 1 / row["s"]
    return list(rows.values())


def count(spec: BenchIndex, store: Store, data: BenchSet, name: str, kept: dict[str, Any]) -> list[dict[str, Any]]:
    """What settings chosen for their cost come to: a row for each seed."""
    candidate, rows = kept["candidate"], []
    seeds = seeds_of(spec, data) if system(name).seeded else spec.seeds[:1]
    for seed in seeds:
        store.ensure_built(name, data, candidate["build"], seed, max(spec.threads))
    with store.worker(name, data, max(spec.threads), "query") as worker:
        for seed in seeds:
            store.load(worker, name, data, candidate["build"], seed)
            seen = _search(worker, candidate, count=True, seconds=0)
            settings = {key: candidate[key] for key in ("build", "knob", "effort")}
            about = {"system": name, "seed": seed}
            rows.append(about | settings | {key: seen[key] for key in ("recall", "counts")})
    return rows


def sweep(spec: BenchIndex, store: Store, data: BenchSet, chosen: Chosen) -> list[dict[str, Any]]:
    """Recall, speed and cost of every system around the settings chosen, for the pictures."""
    out: list[dict[str, Any]] = []
    with progress.task(f"{data.name}: curves", len(chosen), "systems") as task:
        for name, kept in chosen.items():
            candidate = kept["candidate"]
            efforts = list(system(name).efforts(candidate["build"], data.rows))
            middle = efforts.index(candidate["effort"])
            places = sorted({max(0, middle + step) for step in _AROUND if middle + step < len(efforts)})
            with store.worker(name, data, spec.threads[0], "query") as worker:
                store.load(worker, name, data, candidate["build"], spec.seeds[0])
                for place in places:
                    seen = _search(worker, candidate | {"effort": efforts[place]}, count=True)
                    out.append({"system": name, "effort": efforts[place], **seen})
            task.advance(1)
    return out


def _search(worker: Worker, candidate: dict[str, Any], count: bool, **words: Any) -> dict[str, Any]:
    return worker.ask("search", effort=candidate["effort"], knob=candidate["knob"], count=count, **words)
