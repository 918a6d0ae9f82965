"""Labels that a table has no column for: nobody knows of any of its images whether they show them."""

from collections.abc import Sequence

import numpy as np

_NAMED = 5


def lacking_columns(asked: Sequence[str] | None, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 numbers of the `names` without a column, and what to tell of them and of columns that are none of `names`.

    asked: the columns there are; None: the source is no such table.
    """
    if asked is None:
        return np.zeros(0, np.int64), ()
    there, known = set(asked), set(names)
    lacking = [number for number, name in enumerate(names) if name not in there]
    foreign = [name for name in asked if name not in known]
    notes = []
    if lacking:
        told = shortened([names[number] for number in lacking])
        notes.append(f"labels without a column count as unknown, not as absent, and are in no figure: {told}")
    if foreign:
        notes.append(
            f"columns of labels that are not among the {len(names)} learnt, and that no image shows: "
            f"{shortened(foreign)}; they are left out"
        )
    return np.array(lacking, np.int64), tuple(notes)


def shortened(names: Sequence[str]) -> str:
    """The first of them: `a, b, c, d, e and 3 more`."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def with_each(label_M: np.ndarray, count_N: np.ndarray, further_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of all images one after the other, and how many are each image's, with `further_K` for every one."""
    if not len(further_K):
        return label_M, count_N
    rows = len(count_N)
    row_M = np.concatenate([np.repeat(np.arange(rows), count_N), np.repeat(np.arange(rows), len(further_K))])
    label_M = np.concatenate([label_M, np.tile(further_K, rows)])
    return label_M[np.argsort(row_M, kind="stable")], count_N + len(further_K)
