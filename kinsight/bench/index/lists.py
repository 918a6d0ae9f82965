"""Entries scanned by a learned partition beside k-means: with as many lists, and with as much storage.

With copies, `percent` of them for a vector, the fair rival has lists times (1 + percent): its lists are as long as ours
were before, and shorter than ours are now.
"""

from typing import Any

from kinsight import progress
from kinsight.bench.index.sets import BenchSet
from kinsight.bench.index.store import Store, seeds_of
from kinsight.bench.index.store_key import key_of
from kinsight.specs.bench_index import BenchIndex

_COPIES = (0.0, 0.5, 1.0)
_SHARES = (0.005, 0.01, 0.02)


def compare_lists(spec: BenchIndex, store: Store, data: BenchSet, lists: int, components: int | None) -> list[Any]:
    """A row for each partition and seed."""
    seeds = seeds_of(spec, data)
    copies = _COPIES[1:2] if spec.effort == "quick" else _COPIES
    plan: list[tuple[str, str, float, int, dict[str, Any]]] = []
    for share in copies:
        ours = {"components": components, "lists": lists, "payload": "flat", "copies": share}
        rival = round(lists * (1 + share))
        peers = {"factory": f"IVF{rival},Flat", "lists": rival}
        plan += [("kinsight-flat", "learned", share, seed, ours) for seed in seeds]
        plan += [("faiss-ivf-flat", "k-means", 0.0, seed, peers) for seed in seeds]
    rows = []
    with progress.task(f"{data.name}: lists", len(plan), "partitions") as task:
        for name, title, share, seed, build in plan:
            asked = {"build": build, "seed": seed, "targets": spec.targets}
            place = store.root / "measured" / data.name / f"lists-{name}-{key_of(asked)}.json"
            found = store.once(
                place,
                spec.again == "tuning",
                lambda name=name, build=build, seed=seed: _one(spec, store, data, name, build, seed),
            )
            rows.append({"lists": build["lists"], "partition": title, "copies": share, "seed": seed, **found})
            task.advance(1)
    return rows


def _one(spec: BenchIndex, store: Store, data: BenchSet, name: str, build: dict[str, Any], seed: int) -> dict[str, Any]:
    store.ensure_built(name, data, build, seed, max(spec.threads))
    with store.worker(name, data, max(spec.threads), "query") as worker:
        store.load(worker, name, data, build, seed)
        most = max(2, min(build["lists"], max(64, build["lists"] // 4)))
        return worker.ask("lists", most=most, targets=spec.targets, shares=_SHARES)
