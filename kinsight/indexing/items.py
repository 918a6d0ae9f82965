"""What an index knows of its items: ids, labels, addresses, further columns."""

import difflib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.errors import DataError

_NAMED = 5
_ALL_COMPARED = 20_000  # ids up to which the nearest to an unknown one is sought among all
_AROUND = 50


class Items:
    """Tables of consecutive rows, usually memory-mapped, seen as one. live_N: bool, rows that still count."""

    def __init__(self, tables: Sequence[pa.Table], live_N: np.ndarray, id_type: pa.DataType) -> None:
        self._tables, self._live_N, self.id_type = list(tables), live_N, id_type
        self._batches = [batch for table in tables for batch in table.to_batches()]
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    def take(self, row_N: np.ndarray) -> pa.Table:
        """The items at rows, in that order; only their parts of the files are read."""
        order_N = np.argsort(row_N, kind="stable")
        sorted_N = row_N[order_N]
        edge_B = np.searchsorted(sorted_N, self._starts)
        parts = [
            batch.take(pa.array(sorted_N[left:right] - start))
            for batch, start, left, right in zip(
                self._batches, self._starts, edge_B[:-1].tolist(), edge_B[1:].tolist(), strict=False
            )
            if right > left
        ]
        if not parts:
            return self._tables[0].slice(0, 0)
        back_N = np.argsort(order_N)
        return pa.Table.from_batches(parts).combine_chunks().take(pa.array(back_N))

    def rows_of(self, ids: Sequence[str | int]) -> tuple[np.ndarray, list[str | int]]:
        """int64 row of each id, -1 for those that are not there, and these."""
        wanted = [self._typed(one) for one in ids]
        row_N = np.array([-1 if one is None else self._row(one) for one in wanted], np.int64)
        return row_N, [one for one, row in zip(ids, row_N, strict=True) if row < 0]

    def unknown(self, ids: Sequence[str | int]) -> DataError:
        """The error that names ids that are not there, with the nearest that are."""
        shown = ", ".join(repr(one) for one in ids[:_NAMED])
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        near = self._nearest(ids[0])
        hint = f"did you mean {near!r}? " if near is not None else ""
        kind = "" if self._typed(ids[0]) is not None else "; the ids of this index are numbers"
        return DataError(
            "index.unknown-id",
            f"the index holds no item {shown}{more}{kind}",
            field="id",
            remedy=f"{hint}ids are those of the build's id_column, or running numbers from 0",
        )

    def live_rows(self, row_N: np.ndarray) -> np.ndarray:
        """bool (N,): whether rows still count."""
        return self._live_N[row_N]

    def live_ids(self) -> pa.ChunkedArray:
        """Ids of rows that still count, in order."""
        return self.live_column("id", self.id_type)

    def live_column(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """One column, of this type, of the rows that still count, in order; no other is read."""
        column = pa.chunked_array([chunk for table in self._tables for chunk in table[name].chunks], kind)
        return column if self._live_N.all() else column.filter(pa.array(self._live_N))

    @cached_property
    def label_sizes(self) -> dict[str, int]:
        """How many live rows each label has; rows without one are left out."""
        counted = pc.value_counts(self.live_column("label", pa.string()))
        return {one["values"]: one["counts"] for one in counted.to_pylist() if one["values"]}

    @cached_property
    def _by_id(self) -> tuple[pa.Array, np.ndarray]:
        """Ids of live rows ascending, and the rows."""
        column, row_N = self.live_ids(), np.flatnonzero(self._live_N)
        order_N = pc.sort_indices(column).to_numpy()
        ids = column.take(pa.array(order_N))
        ids = pa.concat_arrays(ids.chunks) if ids.num_chunks else pa.array([], self.id_type)
        return ids, row_N[order_N]

    def _row(self, one: str | int) -> int:
        ids, row_N = self._by_id
        place = self._place(one)
        return int(row_N[place]) if place < len(ids) and ids[place].as_py() == one else -1

    def _place(self, one: str | int) -> int:
        """Position of the first id that is not below this one. Arrow orders strings by their bytes, as UTF-8 does."""
        ids, _ = self._by_id
        key: Any = one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            found = ids[middle].as_py()
            if (found.encode() if isinstance(found, str) else found) < key:
                low = middle + 1
            else:
                high = middle
        return low

    def _typed(self, one: str | int) -> str | int | None:
        """An id as the index has them; None where it cannot be one of them."""
        if not pa.types.is_integer(self.id_type):
            return str(one)
        try:
            number = int(one)
        except ValueError:
            return None
        return number if -(2**63) <= number < 2**63 else None

    def _nearest(self, one: str | int) -> str | int | None:
        ids, _ = self._by_id
        typed = self._typed(one)
        if not len(ids) or typed is None:
            return None
        place = self._place(typed)
        if isinstance(typed, int):
            around = [ids[at].as_py() for at in (place - 1, place) if 0 <= at < len(ids)]
            return min(around, key=lambda other: abs(other - typed))
        part = ids if len(ids) <= _ALL_COMPARED else ids.slice(max(0, place - _AROUND), 2 * _AROUND)
        return next(iter(difflib.get_close_matches(typed, part.to_pylist(), n=1, cutoff=0.5)), None)
