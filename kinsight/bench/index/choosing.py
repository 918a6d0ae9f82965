"""From settings found on learn queries to those that reach a recall on the test queries.

The best on learn queries is taken as it is. Where the recall of the test queries comes out lower than asked for, the
next greater effort is taken, and so on, and how many were passed over is told: learn queries that are rows of the base
are found more easily, by graphs above all. Nothing is timed here.
"""

from dataclasses import replace
from typing import Any

from kinsight import progress
from kinsight.bench.index.sets import BenchSet
from kinsight.bench.index.store import Store
from kinsight.bench.index.store_key import key_of
from kinsight.bench.index.systems import system
from kinsight.bench.index.tuning import Candidate, best
from kinsight.bench.index.worker import Worker
from kinsight.specs.bench_index import BenchIndex

Found = dict[str, list[Candidate]]
Chosen = dict[str, dict[str, Any]]
_STEPS = 24
BY = ("s", "cost")


def choose(spec: BenchIndex, store: Store, data: BenchSet, found: Found) -> dict[tuple[str, float], Chosen]:
    """For each of `BY` and each recall: what every system is set to. A system without settings is left out.

    Of one: candidate; steps, how many were passed over; recall and counts on the test queries; reached, whether it is
    enough.
    """
    out: dict[tuple[str, float], Chosen] = {(by, target): {} for by in BY for target in spec.targets}
    with progress.task(f"{data.name}: recall of test queries", len(found), "systems") as task:
        for name, candidates in found.items():
            asked = [[vars(each) for each in candidates], spec.targets]
            place = store.root / "measured" / data.name / f"chosen-{name}-{key_of(asked)}.json"
            kept = store.once(
                place, False, lambda name=name, candidates=candidates: _of_system(spec, store, data, name, candidates)
            )
            for by, target in out:
                if (one := kept[f"{by}@{target:g}"]) is not None:
                    out[by, target][name] = one
                elif by == "s":
                    progress.warn(f"{data.name}: no setting tried brings {name} to recall@10 {target:g}; left out")
            task.advance(1)
    return out


def _of_system(
    spec: BenchIndex, store: Store, data: BenchSet, name: str, candidates: list[Candidate]
) -> dict[str, dict[str, Any] | None]:
    with store.worker(name, data, max(spec.threads), "query") as worker:
        chooser = _Chooser(spec, store, data, name, worker)
        return {
            f"{by}@{target:g}": chooser.one(best(candidates, target, by), target)
            for by in BY
            for target in spec.targets
        }


class _Chooser:
    def __init__(self, spec: BenchIndex, store: Store, data: BenchSet, name: str, worker: Worker) -> None:
        self._spec, self._store, self._data, self._name, self._worker = spec, store, data, name, worker
        self._loaded: Any = None

    def one(self, first: Candidate | None, target: float) -> dict[str, Any] | None:
        if first is None:
            return None
        found: dict[str, Any] = {}
        efforts = [each for each in system(self._name).efforts(first.build, self._data.rows) if each >= first.effort]
        for steps, effort in enumerate(efforts[:_STEPS]):
            option = replace(first, effort=effort)
            seen = self._search(option)
            found = {"candidate": vars(option), "steps": steps, "recall": seen["recall"], "counts": seen["counts"]}
            if seen["recall"] >= target:
                break
        return found | {"reached": found["recall"] >= target}

    def _search(self, option: Candidate) -> dict[str, Any]:
        if option.build != self._loaded:
            self._store.load(self._worker, self._name, self._data, option.build, self._spec.seeds[0])
            self._loaded = option.build
        return self._worker.ask("search", effort=option.effort, knob=option.knob, count=True, seconds=0)
