"""Settings of a learned index found on vectors its partition held out: the cheapest that reach a recall.

Shapes: H held-out queries, K true neighbours, P lists, R candidates.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch

from kinsight import progress
from kinsight.indexing.learned import LEAST_K, Learned
from kinsight.indexing.settings import Level
from kinsight.indexing.structures import prepared
from kinsight.neighbors.gallery import Gallery
from kinsight.neighbors.vectors import row_norms

RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
_K = LEAST_K
_REFINE = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
_MASSES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_ENOUGH = 0.9995
_COMMON = 0.95  # share of the queries that may look into as many lists as their mass asks for
# Nanoseconds on one core, measured where settings were compared; what matters is how they relate. Of a number that is
# looked through, in each payload; of a number of the lists' weights, where all are compared; of a list to choose and to
# begin, and of one that a graph chooses; of stopping by mass; of a candidate kept; and of each number of its full
# vector, which lies anywhere in memory.
_NUMBER_NS = {"flat": 0.16, "fp16": 0.16, "sq8": 0.12, "pq": 0.1, "fastscan": 0.007, "rabitq": 0.05}
_WEIGHT_NS, _LIST_NS, _GRAPH_LIST_NS, _MASS_NS = 0.015, 250.0, 650.0, 3000.0
_KEPT_NS = {"fastscan": 60.0}
_OTHER_KEPT_NS, _REFINED_NUMBER_NS = 200.0, 0.6


def tune(structure: Learned, gallery: Gallery) -> Learned:
    """The structure with a level for each of `RECALLS` and for the recall of its settings, set to that one; where
    settings were given, they stay.

    A recall is taken for reached where the estimate is a standard error above it. One that no setting reaches has no
    level; for `wanted` that is a warning, and the best there is is taken.
    """
    wanted = structure.settings.recall
    query_HD, near_HK = _truth(structure, gallery)
    options = list(_options(structure, gallery, query_HD, near_HK))
    sought = {*RECALLS, *([] if wanted is None else [wanted])}
    levels = {recall: found for recall in sorted(sought) if (found := _cheapest(options, recall)) is not None}
    if wanted is None:
        return structure.with_levels(tuple(levels.values()))
    chosen = levels.get(wanted)
    if chosen is None:
        chosen = max(options, key=lambda each: (each.reached, -each.cost))
        progress.warn(
            f"index.recall={wanted:g}: the best found on held-out vectors is {chosen.reached:.3f}; larger lists, "
            "more components or another payload may reach it"
        )
        chosen = chosen.model_copy(update={"recall": wanted})
        levels[wanted] = chosen
    progress.say(f"tuning      {_told(chosen)}")
    return structure.with_levels(tuple(levels.values())).at(chosen)


def _truth(structure: Learned, gallery: Gallery) -> tuple[np.ndarray, np.ndarray]:
    """Held-out queries as structures take them, and their exact neighbours without themselves: int64 (H, K)."""
    query_HD = structure.partition.held_HD
    with progress.task("truth", len(query_HD), "queries") as task:
        similarity_HK, near_HK, _ = gallery.nearest(query_HD, min(_K + 1, gallery.num_live), advance=task.advance)
    first_H = gallery.take(near_HK[:, 0].clamp_min(0))
    own_H = (first_H == query_HD).all(1) & similarity_HK[:, 0].isfinite()
    if near_HK.shape[1] > _K:
        near_HK = torch.where(own_H[:, None], near_HK[:, 1:], near_HK[:, :_K])
    ready_HD = prepared(query_HD.numpy(), row_norms(query_HD, "held", gallery.metric).numpy(), gallery.metric)
    return ready_HD, near_HK.numpy()


def _options(structure: Learned, gallery: Gallery, query_HD: np.ndarray, near_HK: np.ndarray) -> Iterator[Level]:
    """What may be chosen, with what it reaches and costs."""
    by_graph = structure.settings.routing == "graph"
    tries = [each for each in _tries(structure.faiss.nlist) if not by_graph or each[1] is None]
    copies = 0.0 if structure.settings.copies is None else structure.settings.copies.budget
    most = min(math.ceil((1 + copies) * _REFINE[-1] * _K), gallery.num_live)
    with progress.task("tuning", len(tries), "settings") as task:
        for probes, mass in tries:
            level = Level(recall=0, reached=0, nprobe=probes, mass=mass, refine=1, scanned=0, cost=0)
            row_HR, _, list_HP, _ = structure.at(level).looked_through(query_HD, most, 1, None).as_asked()
            if mass is not None:  # few queries need the most lists, and all pay for choosing among them
                level = level.model_copy(update={"nprobe": int(np.quantile((list_HP >= 0).sum(1), _COMMON))})
                row_HR, _, list_HP, _ = structure.at(level).looked_through(query_HD, most, 1, None).as_asked()
            size_L = np.append(structure.entries_L.numpy(), 0)
            scanned = float(size_L[list_HP].sum(1).mean())
            routing = structure.at(level).multiply_adds(query_HD)
            told = [each for each in _reached(row_HR, near_HK, copies) if each[0] * _K <= max(most, _K)]
            for refine, reached in told:
                cost = _cost(structure, gallery, level, scanned, refine)
                whole = (routing + scanned * structure.faiss.d) / gallery.segments[0].shape[1] + refine * _K
                yield level.model_copy(
                    update={
                        "reached": reached, "refine": refine, "scanned": round(scanned, 1), "cost": cost,
                        "share": round(whole / len(gallery), 6),
                    }
                )  # fmt: skip
            task.advance(1)
            if mass is None and told[-1][1] >= _ENOUGH:
                return  # more lists only cost more


def _tries(lists: int) -> Iterator[tuple[int, float | None]]:
    for mass in _MASSES:
        yield min(lists, max(8, lists // 4)), mass
    for step in range(64):
        probes = math.ceil(2 ** (step / 2)) if step > 2 else step + 1
        if probes > max(4, lists // 2):
            return
        yield probes, None


def _reached(row_HR: np.ndarray, near_HK: np.ndarray, copies: float) -> list[tuple[float, float]]:
    """(refine, recall) less a standard error: a neighbour counts where it is among the first candidates."""
    place_HK = np.full(near_HK.shape, row_HR.shape[1])
    for column in range(near_HK.shape[1]):
        hit_HR = (row_HR == near_HK[:, column : column + 1]) & (near_HK[:, column : column + 1] >= 0)
        place_HK[:, column] = np.where(hit_HR.any(1), hit_HR.argmax(1), row_HR.shape[1])
    told = []
    for refine in _REFINE:
        found_H = (place_HK < math.ceil((1 + copies) * refine * _K)).mean(1)
        told.append((refine, float(found_H.mean() - found_H.std() / math.sqrt(len(found_H)))))
    return told


def _cost(structure: Learned, gallery: Gallery, level: Level, scanned: float, refine: float) -> float:
    """Nanoseconds of what differs between settings."""
    looked = scanned * structure.faiss.d * _NUMBER_NS[structure.settings.payload]
    if structure.at(level).by_graph:
        choosing = level.nprobe * _GRAPH_LIST_NS
    else:
        weights = structure.partition.router.weight.numel()
        choosing = weights * _WEIGHT_NS + level.nprobe * _LIST_NS + (0 if level.mass is None else _MASS_NS)
    kept = _KEPT_NS.get(structure.settings.payload, _OTHER_KEPT_NS)
    return looked + choosing + refine * _K * (kept + gallery.segments[0].shape[1] * _REFINED_NUMBER_NS)


def _cheapest(options: list[Level], recall: float) -> Level | None:
    enough = [each for each in options if each.reached >= recall]
    return min(enough, key=lambda each: each.cost).model_copy(update={"recall": recall}) if enough else None


def _told(level: Level) -> str:
    mass = "" if level.mass is None else f" up to mass {level.mass:g}"
    return (
        f"recall@{_K} {level.recall:g}: nprobe {level.nprobe}{mass}, refine {level.refine:g}; looks through "
        f"{level.scanned:,.0f} entries, {100 * level.share:.2f} % of the multiply-adds of a full scan"
    )
