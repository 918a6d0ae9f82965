"""Ids that come twice: among the items that are added, and in the index they are added to."""

from typing import Literal

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.errors import DataError

_NAMED = 5

OnDuplicate = Literal["error", "replace", "skip"]


def decide_repeats(ids: pa.ChunkedArray, present: pa.ChunkedArray, policy: OnDuplicate) -> tuple[np.ndarray, pa.Array]:
    """(bool per id in `ids`: whether the item is added, ids of the index that are replaced).

    present: ids in the index. Raises DataError naming repeats where the policy is error.
    """
    known_N = pc.is_in(ids, value_set=pc.unique(present)).to_numpy()
    place = pa.table({"id": ids, "row": np.arange(len(ids))})
    ends = place.group_by("id").aggregate([("row", "min"), ("row", "max")])
    first_N, last_N = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    first_N[ends["row_min"].to_numpy()], last_N[ends["row_max"].to_numpy()] = True, True
    match policy:
        case "skip":
            return first_N & ~known_N, pa.array([], ids.type)
        case "replace":
            return last_N, pc.unique(ids.filter(pa.array(known_N & last_N)))
        case "error":
            repeated_N = known_N | ~first_N
            if repeated_N.any():
                raise _repeated(pc.unique(ids.filter(pa.array(repeated_N))), bool(known_N.any()))
            return first_N, pa.array([], ids.type)


def named(ids: pa.Array | pa.ChunkedArray) -> str:
    """The first few of many ids, and how many more there are."""
    shown = ", ".join(repr(one) for one in ids[:_NAMED].to_pylist())
    return f"{shown} and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else shown


def _repeated(ids: pa.Array | pa.ChunkedArray, in_index: bool) -> DataError:
    where = "in the index already, or given twice" if in_index else "given twice"
    remedy = "use another id column, or --on-duplicate replace or skip" if in_index else "use another id column"
    return DataError(
        "index.repeated-id", f"{named(ids)}: {where}; an id names one item", field="id_column", remedy=remedy
    )
