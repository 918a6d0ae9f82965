"""The settings of a system that reach a recall soonest, or at the least cost, found on learn queries alone.

Every way of building is built; for each further setting the least effort that reaches each recall is sought by halving
on some of the queries, and timed on all of them, with the next greater effort for where these come out lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kinsight import progress
from kinsight.bench.index.sets import BenchSet
from kinsight.bench.index.store import Store
from kinsight.bench.index.store_key import key_of
from kinsight.bench.index.system import Settings
from kinsight.bench.index.systems import system
from kinsight.bench.index.worker import Worker
from kinsight.specs.bench_index import BenchIndex

_BEYOND = (0, 1)  # efforts above the least that are tried too
_START = 8  # place of the effort that is looked at first
_STILL = 5e-4  # what four efforts more must gain
_SEEK_QUERIES = 1000
_TIMED_S = 0.3


@dataclass(frozen=True)
class Candidate:
    """Settings, and what they came to on learn queries. s, cost: seconds and multiply-adds of a query."""

    build: Settings
    knob: Settings
    effort: int
    recall: float
    s: float
    cost: float | None


def tune(spec: BenchIndex, store: Store, data: BenchSet, name: str) -> list[Candidate]:
    """All settings worth a look. What is in the store is not done again unless `spec.again` is tuning."""
    builds = system(name).builds(data.rows, data.dim, spec.effort)
    found: list[Candidate] = []
    again = spec.again == "tuning"
    with progress.task(f"{data.name} {name}: tuning", len(builds), "builds") as task:
        for build in builds:
            asked = {"build": build, "targets": spec.targets, "seed": spec.seeds[0], "threads": spec.threads[0]}
            place = store.root / "tuned" / data.name / name / f"{key_of(asked)}.json"
            rows = store.once(place, again, lambda build=build: _tune_build(spec, store, data, name, build))
            found += [Candidate(**row) for row in rows]
            task.advance(1)
    return found


def best(found: Sequence[Candidate], target: float, by: str) -> Candidate | None:
    """What reaches a recall on learn queries with the least `s` or `cost`; None where nothing does."""
    usable = [each for each in found if each.recall >= target and getattr(each, by) is not None]
    return min(usable, key=lambda each: getattr(each, by), default=None)


def _tune_build(spec: BenchIndex, store: Store, data: BenchSet, name: str, build: Settings) -> list[dict[str, Any]]:
    kind, seed = system(name), spec.seeds[0]
    store.ensure_built(name, data, build, seed, max(spec.threads))
    rows: list[dict[str, Any]] = []
    with store.worker(name, data, spec.threads[0], "learn") as worker:
        store.load(worker, name, data, build, seed)
        efforts = kind.efforts(build, data.rows)
        starts: dict[float, int] = {}
        for knob in kind.knobs(build, data.rows):
            rows += _tune_knob(_Sought(worker, build, knob, efforts), sorted(spec.targets), starts)
    return rows


@dataclass
class _Sought:
    worker: Worker
    build: Settings
    knob: Settings
    efforts: Sequence[int]

    def __post_init__(self) -> None:
        self._recall: dict[int, float] = {}

    def recall(self, place: int) -> float:
        if place not in self._recall:
            self._recall[place] = self._ask(place, False, _SEEK_QUERIES, 0)["recall"]
        return self._recall[place]

    def look(self, place: int) -> dict[str, Any]:
        return self._ask(place, True, None, _TIMED_S)

    def least(self, target: float, start: int) -> int | None:
        """The place of the least effort that reaches the recall, sought from `start` on; None where none seems to."""
        last, stride = len(self.efforts) - 1, 1
        low, high = -1, min(start, last)
        while self.recall(high) < target:
            if high == last or (stride >= 4 and self.recall(high) - self.recall(low) < _STILL):
                return None
            low, high, stride = high, min(high + stride, last), 2 * stride
        if low < 0:
            stride, low = 1, high - 1
            while low >= 0 and self.recall(low) >= target:
                high, stride = low, 2 * stride
                low = max(-1, high - stride)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.recall(middle) >= target else (middle, high)
        return high

    def _ask(self, place: int, count: bool, queries: int | None, seconds: float) -> dict[str, Any]:
        settings = {"effort": self.efforts[place], "knob": self.knob}
        return self.worker.ask("search", **settings, count=count, queries=queries, seconds=seconds)


def _tune_knob(sought: _Sought, targets: list[float], starts: dict[float, int]) -> list[dict[str, Any]]:
    """starts: where the knob before found the targets, brought up to date."""
    places: set[int] = set()
    start = _START
    for target in targets:
        start = starts.get(target, start)
        least = sought.least(target, start)
        if least is None:
            break
        start = starts[target] = least
        places |= {min(least + more, len(sought.efforts) - 1) for more in _BEYOND}
    rows = []
    for place in sorted(places):
        seen = sought.look(place)
        counts = seen["counts"]
        found = Candidate(
            sought.build,
            sought.knob,
            sought.efforts[place],
            seen["recall"],
            seen["s"],
            None if counts is None else counts["multiply_adds"],
        )
        rows.append(vars(found))
    return rows
