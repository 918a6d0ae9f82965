"""Vectors that cannot be in an index, named by their items, and by their rows in the file they come from."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from kinsight.errors import DataError
from kinsight.neighbors import Metric


def refuse_unusable(
    vector_BD: np.ndarray,
    table: pa.Table,
    metric: Metric,
    place: str = "embeddings",
    rows: Sequence[int] | np.ndarray | None = None,
) -> None:
    """Raise DataError for NaN and infinity, and for zero under cosine. table: the items, a row each.

    rows: their numbers in `place`, where these are known.
    """
    usable_B, what = np.isfinite(vector_BD).all(axis=1), "holds NaN or infinity"
    if usable_B.all() and metric == "cosine":
        usable_B, what = vector_BD.any(axis=1), "is a zero vector, which has no cosine similarity"
    if usable_B.all():
        return
    row = int(usable_B.argmin())
    item = table.slice(row, 1).to_pylist()[0]
    uri = f" ({item['uri']})" if item["uri"] else ""
    number = None if rows is None else int(rows[row])
    where, whose = "" if number is None else f"row {number}: ", f" of item {item['id']!r}"
    raise DataError(
        "index.vector",
        f"{where}the vector{'' if item['id'] == number else whose}{uri} {what}",
        field=place,
        remedy="look for a diverged model or a broken image behind it, or drop it",
    )


def refusing(
    blocks: Iterator[tuple[np.ndarray, pa.Table]], rows: Sequence[int] | np.ndarray, place: str, metric: Metric
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """The same blocks. rows: their numbers in `place`, in order. Raises DataError naming the row that is unusable."""
    done = 0
    for vector_BD, table in blocks:
        refuse_unusable(vector_BD, table, metric, place, rows[done : done + len(table)])
        done += len(table)
        yield vector_BD, table
