"""Which queries find another class first, and which classes are taken for which."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight.metrics import class_table, label_table
from kinsight.reports.evaluated import Evaluated
from kinsight.reports.searching import search

# Looked at in all: 30,000 queries in 60,000 images, or 2,000 in a million.
_MOST_SIMILARITIES = 2_000_000_000


@dataclass(frozen=True)
class Mistakes:
    """Queries whose most similar image is of another class.

    row_M: int64 rows of the queries; found_M: int64 rows of what they found; similarity_M: float32; most similar
    first. total: how many there are; with fewer rows, those were drawn by seed.
    """

    row_M: np.ndarray
    found_M: np.ndarray
    similarity_M: np.ndarray
    total: int

    def __len__(self) -> int:
        return len(self.row_M)


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes. there, back: mistakes from the first to the second and the other way; example: one in Mistakes."""

    first: int
    second: int
    there: int
    back: int
    example: int


@dataclass(frozen=True)
class HardClass:
    """A class of the queries with its numbers; name -> mean."""

    label: int
    queries: int
    values: dict[str, float]


def right_Q(found: Evaluated) -> np.ndarray:
    """int8 for each query: 1 where the most similar image is of its class, 0 where not, -1 where none could be."""
    ranks = found.retrieval.ranks
    first_Q, matched_Q = ranks.first_Q().cpu().numpy(), (ranks.positives_Q > 0).cpu().numpy()
    return np.where(matched_Q, first_Q == 1, -1).astype(np.int8)


def find_mistakes(found: Evaluated, device: torch.device) -> Mistakes:
    """The mistakes, with what was found instead; drawn by seed where there are too many to look at."""
    row_M = np.flatnonzero(right_Q(found) == 0)
    total, most = len(row_M), max(64, _MOST_SIMILARITIES // max(1, len(found.searched)))
    if total > most:
        row_M = np.sort(np.random.default_rng(found.seed).choice(row_M, most, replace=False))
    if not total:
        return Mistakes(row_M, row_M, np.empty(0, np.float32), 0)
    similarity_M1, index_M1 = nearest(found, row_M, 1, device)
    similarity_M = similarity_M1[:, 0].numpy()
    order = np.argsort(-similarity_M, kind="stable")
    return Mistakes(row_M[order], index_M1[:, 0].numpy()[order], similarity_M[order], total)


def nearest(found: Evaluated, row_Q: np.ndarray, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(similarity_QK, index_QK) on the CPU: what some queries find, themselves left out where they are searched too."""
    rows = torch.from_numpy(row_Q)
    own = found.gallery is None
    return search(
        found.query.vector_ND[rows],
        found.searched.vector_ND,
        min(k, len(found.searched) - own),
        metric=found.metric,
        exclude=rows if own else None,
        device=device,
    )


def confused_pairs(found: Evaluated, mistakes: Mistakes, most: int) -> list[ConfusedPair]:
    """Pairs of classes with the most mistakes between them, in both directions together; ties by number of class."""
    asked_M = found.query.label_N.numpy()[mistakes.row_M]
    taken_M = found.searched.label_N.numpy()[mistakes.found_M]
    directed = Counter(zip(asked_M.tolist(), taken_M.tolist(), strict=True))
    both: Counter[tuple[int, int]] = Counter()
    example: dict[tuple[int, int], int] = {}
    for place, pair in enumerate(zip(asked_M.tolist(), taken_M.tolist(), strict=True)):
        key = (min(pair), max(pair))
        both[key] += 1
        example.setdefault(key, place)
    chosen = sorted(both, key=lambda pair: (-both[pair], pair))[:most]
    turned = [(a, b) if directed[a, b] >= directed[b, a] else (b, a) for a, b in chosen]
    return [ConfusedPair(a, b, directed[a, b], directed[b, a], example[min(a, b), max(a, b)]) for a, b in turned]


def hardest_classes(found: Evaluated, most: int) -> list[HardClass]:
    """Classes with the lowest numbers, worst first; those that are found without a mistake are left out."""
    per_query = found.retrieval.per_query
    names = [name for name in ("recall@1", "map@r", "r_precision") if name in per_query]
    if not names:
        return []
    classes = (
        label_table(found.labels_QL, per_query, names)
        if found.labels_QL is not None
        else class_table(found.retrieval.class_Q, per_query, names)
    )
    column = {name: value.numpy() for name, value in classes.column.items()}
    order = np.lexsort([column[name] for name in reversed(names)])
    order = [row for row in order.tolist() if column[names[0]][row] < 1][:most]
    return [
        HardClass(
            int(classes.class_C[row]), int(classes.count_C[row]), {name: float(column[name][row]) for name in names}
        )
        for row in order
    ]
