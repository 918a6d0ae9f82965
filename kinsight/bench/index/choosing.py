"""For each recall the settings that learn queries chose, and what they come to on the test queries.

They are taken as they are, whatever the test queries say: learn queries that are rows of the base are found more
easily, by graphs above all, so that the recall may come out lower than asked for, which the tables tell; speeds at the
very same recall are read off the curves (`tables.equal_table`). Nothing is timed here.
"""

from itertools import product
from typing import Any

from kinsight import progress
from kinsight.bench.index.sets import BenchSet
from kinsight.bench.index.store import Store
from kinsight.bench.index.store_key import key_of
from kinsight.bench.index.tuning import Candidate, best
from kinsight.bench.index.worker import Worker
from kinsight.specs.bench_index import BenchIndex

Found = dict[str, list[Candidate]]
Chosen = dict[str, dict[str, Any]]
BY = ("s", "cost")


def choose(spec: BenchIndex, store: Store, data: BenchSet, found: Found) -> dict[tuple[str, float], Chosen]:
    """For each of `BY` and each recall: what every system is set to. A system without settings is left out.

    Of one: candidate; recall and counts on the test queries; reached, whether it is enough.
    """
    out: dict[tuple[str, float], Chosen] = {(by, target): {} for by in BY for target in spec.targets}
    with progress.task(f"{data.name}: recall of test queries", len(found), "systems") as task:
        for name, candidates in found.items():
            asked = [[vars(each) for each in candidates], spec.targets]
            place = store.root / "measured" / data.name / f"taken-{name}-{key_of(asked)}.json"
            kept = store.once(
                place, False, lambda name=name, candidates=candidates: _of_system(spec, store, data, name, candidates)
            )
            for by, target in out:
                if (one := kept[f"{by}@{target:g}"]) is not None:
                    out[by, target][name] = one
                elif by == "s":
                    progress.warn(
                        f"{data.name}: nothing tried brings {name} to recall@10 {target:g} of learn queries; left out"
                    )
            task.advance(1)
    return out


def _of_system(
    spec: BenchIndex, store: Store, data: BenchSet, name: str, candidates: list[Candidate]
) -> dict[str, dict[str, Any] | None]:
    found: dict[str, dict[str, Any] | None] = {}
    loaded: Any = None
    with store.worker(name, data, max(spec.threads), "query") as worker:
        for by, target in product(BY, spec.targets):
            one = best(candidates, target, by)
            if one is not None and one.build != loaded:
                store.load(worker, name, data, one.build, spec.seeds[0])
                loaded = one.build
            found[f"{by}@{target:g}"] = None if one is None else _measured(worker, one, target)
    return found


def _measured(worker: Worker, one: Candidate, target: float) -> dict[str, Any]:
    seen = worker.ask("search", effort=one.effort, knob=one.knob, count=True, seconds=0)
    recall = seen["recall"]
    return {"candidate": vars(one), "recall": recall, "counts": seen["counts"], "reached": recall >= target}
