"""The systems on the test queries, with the settings found on learn queries, in turn in one run.

A system that ends below a recall with its settings goes on to the next ones of its chain, and the results say so.
"""

import statistics
from dataclasses import asdict
from typing import Any

from kinsight import progress
from kinsight.bench.index.sets import BenchSet
from kinsight.bench.index.store import Store
from kinsight.bench.index.systems import SYSTEMS
from kinsight.bench.index.tuning import Candidate, chain
from kinsight.bench.index.worker import Worker
from kinsight.specs.bench_index import BenchIndex

Found = dict[str, list[Candidate]]
_STEPS = 12


def measure(spec: BenchIndex, store: Store, data: BenchSet, found: Found, target: float, threads: int) -> list[Any]:
    """Rows of the quickest settings: a row for each system and seed that reaches the recall on learn queries.

    Systems take turns; the median of `repeats` and each one's time, so that ratios of the same turn can be told.
    """
    chosen = chosen_for(spec, store, data, found, target, "s")
    rows: list[Any] = []
    for number, seed in enumerate(spec.seeds):
        names = [name for name in chosen if number == 0 or SYSTEMS[name].seeded]
        rows += _in_turn(spec, store, data, {name: chosen[name] for name in names}, threads, seed)
    return [row | {"target": target} for row in rows]


def chosen_for(
    spec: BenchIndex, store: Store, data: BenchSet, found: Found, target: float, by: str
) -> dict[str, dict[str, Any]]:
    """For each system: the settings that reach the recall on the test queries too, and how many were passed over.

    Not measured for time. Systems that no settings bring there are left out.
    """
    chosen: dict[str, dict[str, Any]] = {}
    for name, candidates in found.items():
        place = store.root / "measured" / data.name / f"chosen-{name}-{by}-{target:g}.json"
        options = chain(candidates, target, by)
        asked = [vars(option) for option in options]
        kept = store.once(
            place,
            spec.again == "tuning",
            lambda name=name, options=options, asked=asked: (
                _choose(spec, store, data, name, options, target) | {"of": asked}
            ),
        )
        if kept["of"] != asked:  # tuned anew since
            kept = store.once(
                place,
                True,
                lambda name=name, options=options, asked=asked: (
                    _choose(spec, store, data, name, options, target) | {"of": asked}
                ),
            )
        if kept["candidate"] is not None:
            chosen[name] = kept
    return chosen


def _choose(
    spec: BenchIndex, store: Store, data: BenchSet, name: str, options: list[Candidate], target: float
) -> dict[str, Any]:
    """The first option that reaches the recall on the test queries; the last one tried where none does."""
    if not options:
        return {"candidate": None}
    found: dict[str, Any] = {}
    with store.worker(name, data, max(spec.threads), "query") as worker:
        for steps, option in enumerate(options[:_STEPS]):
            _load(store, worker, data, name, option.build, spec.seeds[0])
            seen = _search(worker, vars(option), count=True)
            found = {"candidate": asdict(option), "steps": steps, "recall": seen["recall"], "counts": seen["counts"]}
            if seen["recall"] >= target:
                break
    return found | {"reached": found["recall"] >= target}


def _in_turn(
    spec: BenchIndex, store: Store, data: BenchSet, chosen: dict[str, Any], threads: int, seed: int
) -> list[Any]:
    workers: dict[str, Worker] = {}
    rows: dict[str, dict[str, Any]] = {}
    try:
        for name, kept in chosen.items():
            candidate = kept["candidate"]
            workers[name] = store.worker(name, data, threads, "query")
            built = store.ensure_built(workers[name], name, data, candidate["build"], seed)
            loaded = _load(store, workers[name], data, name, candidate["build"], seed)
            seen = _search(workers[name], candidate, count=True)  # warms up, too
            about = {"system": name, "seed": seed, "threads": threads, "steps": kept["steps"]}
            settings = {key: candidate[key] for key in ("build", "knob", "effort")}
            learned = {"learn_recall": candidate["recall"]}
            rows[name] = about | settings | learned | seen | built | loaded | {"all_s": []}
        with progress.task(f"{data.name}: {threads} threads, seed {seed}", spec.repeats, "turns") as task:
            for _ in range(spec.repeats):
                for name, worker in workers.items():
                    rows[name]["all_s"].append(_search(worker, chosen[name]["candidate"], count=False)["s"])
                task.advance(1)
    finally:
        for worker in workers.values():
            worker.close()
    return [row | {"s": statistics.median(row["all_s"]), "per_s": 1 / statistics.median(row["all_s"])}
            for row in rows.values()]  # fmt: skip


def sweep(spec: BenchIndex, store: Store, data: BenchSet, found: Found, target: float) -> list[Any]:
    """Recall, speed and cost of every system around the settings it was measured with, for the pictures."""
    threads, out = spec.threads[0], []
    chosen = chosen_for(spec, store, data, found, target, "s")
    with progress.task(f"{data.name}: curves", len(chosen), "systems") as task:
        for name, kept in chosen.items():
            candidate = kept["candidate"]
            efforts = SYSTEMS[name].efforts(candidate["build"], data.rows)
            middle = list(efforts).index(candidate["effort"])
            places = sorted(
                {max(0, middle + step) for step in (-12, -8, -4, 0, 4, 8, 12) if middle + step < len(efforts)}
            )
            with store.worker(name, data, threads, "query") as worker:
                _load(store, worker, data, name, candidate["build"], spec.seeds[0])
                for place in places:
                    seen = _search(worker, candidate | {"effort": efforts[place]}, count=True)
                    out.append({"system": name, "effort": efforts[place], **seen})
            task.advance(1)
    return out


def _load(store: Store, worker: Worker, data: BenchSet, name: str, build: Any, seed: int) -> dict[str, Any]:
    return worker.ask("load", build=build, place=str(store.built(name, data, build, seed)))


def _search(worker: Worker, candidate: dict[str, Any], count: bool) -> dict[str, Any]:
    return worker.ask("search", effort=candidate["effort"], knob=candidate["knob"], count=count)
