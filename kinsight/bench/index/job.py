"""`kinsight bench index`: the learned index beside faiss, hnswlib, ScaNN and usearch, each at its best setting.

For every set and system: ways of building and searching are tried on learn queries, never on test queries (`tuning`);
what reaches a recall soonest, or at the least cost, is measured on the test queries as it is, the systems in turn
(`measuring`), and around it, for a comparison at the very same recall.
Each system runs in a process of its own, limited to the threads. All steps are kept in the output folder: a run that
was stopped goes on, a further one measures again what `again` says.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from kinsight import progress, storage
from kinsight.bench.index.choosing import Chosen, choose
from kinsight.bench.index.lists import compare_lists
from kinsight.bench.index.measuring import count, measure, sweep
from kinsight.bench.index.plots import draw
from kinsight.bench.index.sets import BenchSet, prepare
from kinsight.bench.index.store import Store
from kinsight.bench.index.store_key import key_of
from kinsight.bench.index.systems import system
from kinsight.bench.index.tables import (
    beside,
    best_peer,
    cost_table,
    equal_speeds,
    equal_table,
    lists_table,
    quickest_peer,
    speed_table,
)
from kinsight.bench.index.tuning import Candidate, best, tune
from kinsight.errors import RunError
from kinsight.specs.bench_index import BenchIndex


def run(spec: BenchIndex) -> dict[str, Any]:
    """Measure, print tables, draw pictures, return the figures. Raises RunError where a peer is not installed."""
    _require(spec)
    store = Store(Path(spec.output).resolve())
    results: dict[str, Any] = {
        "processes": "one a system",
        "repeats": spec.repeats,
        "targets": spec.targets,
        "sets": [],
    }
    console = Console(highlight=False, width=220)
    for name in spec.sets:
        data = prepare(name, spec, store.root / "sets" / name)
        results["sets"].append(_one_set(spec, store, data, console))
        if spec.results is not None:
            storage.write_text(spec.results, json.dumps(progress.clean(results), indent=1) + "\n")
    return results


def _one_set(spec: BenchIndex, store: Store, data: BenchSet, console: Console) -> dict[str, Any]:
    about = {"name": data.name, "rows": data.rows, "dim": data.dim, "source": data.source, "threads": spec.threads[0]}
    found = {name: tune(spec, store, data, name) for name in spec.systems}
    chosen = choose(spec, store, data, found)
    out: dict[str, Any] = {"set": about | {"queries": data.queries}, "speed": [], "cost": [], "lists": []}
    for target in spec.targets:
        for threads in spec.threads:
            rows = _speed(spec, store, data, chosen["s", target], target, threads)
            out["speed"] += rows
            console.print(speed_table(about, target, threads, rows))
            _say_ratio(data, target, threads, rows)
    for target in spec.targets:
        if rows := _cost(spec, store, data, chosen["cost", target], target):
            out["cost"] += rows
            console.print(cost_table(about, target, rows))
    if {"kinsight-flat", "faiss-ivf-flat"} <= set(spec.systems):
        out["lists"] = compare_lists(spec, store, data, *_lists_of(spec, data, found["kinsight-flat"]))
        console.print(lists_table(data.name, out["lists"]))
    out["curves"] = [
        row | {"target": target} for target in spec.targets for row in _curves(spec, store, data, chosen["s", target])
    ]
    for target in spec.targets:
        rows = [row for row in out["curves"] if row["target"] == target]
        console.print(equal_table(about, target, rows))
        _say_equal_ratio(data, target, spec.threads[0], rows)
    for path in draw(about, [row for row in out["curves"] if row["target"] == spec.targets[0]], store.root):
        progress.say(f"picture     {path}")
    return out


def _speed(
    spec: BenchIndex, store: Store, data: BenchSet, chosen: Chosen, target: float, threads: int
) -> list[dict[str, Any]]:
    name = f"speed-{target:g}-{threads}-{key_of([chosen, spec.seeds, spec.repeats])}.json"
    place = store.root / "measured" / data.name / name
    return store.once(place, spec.again != "nothing", lambda: measure(spec, store, data, chosen, target, threads))


def _cost(spec: BenchIndex, store: Store, data: BenchSet, chosen: Chosen, target: float) -> list[dict[str, Any]]:
    """What reaches the recall with the fewest multiply-adds; further seeds with the same settings."""
    rows: list[dict[str, Any]] = []
    for name, kept in chosen.items():
        place = store.root / "measured" / data.name / f"cost-{name}-{key_of([kept, spec.seeds])}.json"
        rows += store.once(place, False, lambda name=name, kept=kept: count(spec, store, data, name, kept))
    return [row | {"target": target} for row in rows]


def _curves(spec: BenchIndex, store: Store, data: BenchSet, chosen: Chosen) -> list[dict[str, Any]]:
    place = store.root / "measured" / data.name / f"curves-{key_of([chosen, spec.threads[0]])}.json"
    return store.once(place, spec.again != "nothing", lambda: sweep(spec, store, data, chosen))


def _lists_of(spec: BenchIndex, data: BenchSet, found: list[Candidate]) -> tuple[int, int | None]:
    """The number of lists and the components that ours costs least with where all lists are compared, as the rival's
    are; the last tried where none reaches a recall.
    """
    own = best([each for each in found if "routing" not in each.build], spec.targets[0], "cost")
    build = own.build if own else system("kinsight-flat").builds(data.rows, data.dim, spec.effort)[-1]
    return build["lists"], build["components"]


def _say_ratio(data: BenchSet, target: float, threads: int, rows: list[dict[str, Any]]) -> None:
    rival = best_peer(rows)
    ours = [row for row in rows if row["system"] == "kinsight" and row["seed"] == rows[0]["seed"]]
    if rival is not None and ours:
        missed = f"; ours falls short, at {ours[0]['recall']:.4f}" if ours[0]["recall"] < target else ""
        progress.say(
            f"ratio       {data.name}, recall@10 {target:g}, {threads} thread(s): {beside(ours[0], rival):.2f} times "
            f"the queries a second of {rival['system']}{missed}"
        )


def _say_equal_ratio(data: BenchSet, target: float, threads: int, rows: list[dict[str, Any]]) -> None:
    speeds = equal_speeds(rows, target)
    rival = quickest_peer(speeds)
    if rival is not None and speeds.get("kinsight"):
        progress.say(
            f"ratio       {data.name}, recall@10 {target:g} exactly, {threads} thread(s): "
            f"{speeds['kinsight'] / speeds[rival]:.2f} times the queries a second of {rival}"
        )


def _require(spec: BenchIndex) -> None:
    for name in spec.systems:
        for module in system(name).modules:
            if importlib.util.find_spec(module) is None:
                raise RunError(
                    "bench.peer",
                    f"the module {module} is not installed",
                    field=f"systems={name}",
                    remedy="install it: uv sync --extra bench --extra bench-compiled; or leave it out of systems",
                )
