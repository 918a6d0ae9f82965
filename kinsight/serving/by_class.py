"""One entry per class instead of one per item: what the nearest items say together.

A class's evidence is the mean similarity of its EVIDENCE nearest items (of all it has, where it has fewer): a single
item that happens to lie near counts for less than several that agree, and one class cannot fill the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinsight.indexing import Index

EVIDENCE = 3
NEAREST = 50  # items whose classes are counted for an answer
_POOL, _POOL_PER_CLASS, _POOL_MOST = 400, 32, 20_000  # items looked at


@dataclass(frozen=True)
class Preference:
    """Classes whose items hold something in `column` rank as if `by` more similar; nothing else changes for them."""

    column: str
    by: float


@dataclass
class _Class:
    """What was found of one class. row: of its nearest item."""

    row: int
    item: dict[str, Any]
    size: int
    preferred: bool
    similarities: list[float]
    among_nearest: int = 0

    def similarity(self, floor: float) -> float:
        """The evidence; `floor`: of the farthest item looked at, which is as near as any other of the class can be."""
        wanted = min(EVIDENCE, self.size)
        found = self.similarities[:wanted]
        return (sum(found) + floor * (wanted - len(found))) / wanted


def nearest_classes(
    index: Index, query_1D: Tensor, k: int, *, exclude_1: Tensor | None, preference: Preference | None
) -> list[dict[str, Any]]:
    """The k first classes, best first: the nearest item of each, `similarity` (the evidence), and in `evidence` the
    nearest item's own similarity (best), how many of the class's items (items), of how many it has (of), are among the
    NEAREST (among), with a preference also whether it is `preferred` and the similarity of the class
    that is nearest without it (most). Fewer than k where the nearest 20,000 items are of fewer classes.

    Items without a label are entries of their own.
    """
    pool = min(max(_POOL, _POOL_PER_CLASS * k), _POOL_MOST)
    while True:
        classes, floor = _gather(index, query_1D, pool, exclude_1, preference)
        if len(classes) >= k or pool >= min(len(index), _POOL_MOST):
            break
        pool = min(4 * pool, _POOL_MOST)
    lift = preference.by if preference is not None else 0.0
    similarity = {one.row: one.similarity(floor) for one in classes}
    classes.sort(key=lambda one: (-(similarity[one.row] + lift * one.preferred), one.row))
    most = max(similarity.values(), default=0.0)
    return [
        {"row": one.row, **one.item, "similarity": similarity[one.row], "evidence": _told(one, preference, most)}
        for one in classes[:k]
    ]


def _told(one: _Class, preference: Preference | None, most: float) -> dict[str, Any]:
    told = {"best": one.similarities[0], "items": one.among_nearest, "of": one.size, "among": NEAREST}
    return told if preference is None else told | {"preferred": one.preferred, "most": most}


def _gather(
    index: Index, query_1D: Tensor, pool: int, exclude_1: Tensor | None, preference: Preference | None
) -> tuple[list[_Class], float]:
    """The classes of the `pool` nearest items, in the order of their nearest, and the farthest item's similarity."""
    hits = index.search(query_1D, pool, exclude_Q=exclude_1)
    rows = [row for row in hits.row_QK[0].tolist() if row >= 0]
    similarities = hits.similarity_QK[0, : len(rows)].tolist()
    sizes = _sizes(index, exclude_1)
    found: dict[str | int, _Class] = {}
    for rank, (row, similarity, item) in enumerate(zip(rows, similarities, index.items(rows).to_pylist(), strict=True)):
        key = item["label"] or row
        if key not in found:
            preferred = preference is not None and bool(item.get(preference.column))
            found[key] = _Class(row, item, sizes.get(item["label"], 1) if item["label"] else 1, preferred, [])
        found[key].similarities.append(similarity)
        found[key].among_nearest += rank < NEAREST
    return list(found.values()), similarities[-1] if similarities else 0.0


def _sizes(index: Index, exclude_1: Tensor | None) -> Mapping[str, int]:
    """Items of each label, without the one that is not to find itself."""
    sizes = index.label_sizes()
    if exclude_1 is None:
        return sizes
    own = index.items(torch.as_tensor(exclude_1))["label"][0].as_py()
    return {**sizes, own: sizes.get(own, 1) - 1}
