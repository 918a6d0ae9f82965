"""Which items a search may find, by their columns."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.errors import DataError, SpecError

Value = str | int | float | bool
Where = Mapping[str, Value | Sequence[Value]]
"""Column name -> the value it must have, or those it may have. `label` matches items that have one of the labels."""

_JOINT = " | "


def parse_where(pairs: Sequence[str]) -> dict[str, list[str]]:
    """What `column=value` words mean; several of one column are alternatives. Raises SpecError for other words."""
    where: dict[str, list[str]] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise SpecError("index.where", "expected column=value", field=f"where={pair}", remedy="as in label=shoe")
        where.setdefault(name.strip(), []).append(value)
    return where


def matching(tables: Sequence[pa.Table], where: Where) -> np.ndarray:
    """bool per row of the tables, one after the other: whether every named column has one of its values.

    Raises SpecError for columns that are not there, or hold no plain values; DataError for values of another type.
    """
    if not where:
        raise SpecError("index.where", "names no column", field="where", remedy="leave it out to find all items")
    wanted = {name: [value] if isinstance(value, Value) else list(value) for name, value in where.items()}
    return np.concatenate([_rows(table, wanted) for table in tables]) if tables else np.zeros(0, bool)


def _rows(table: pa.Table, wanted: Mapping[str, list[Value]]) -> np.ndarray:
    kept_N = np.ones(len(table), bool)
    for name, values in wanted.items():
        if name not in table.column_names:
            raise SpecError(
                "index.where",
                "is no column of the index",
                field=f"where.{name}",
                remedy=f"it has {', '.join(table.column_names)}",
            )
        kept_N &= _one_of(table[name], name, values)
    return kept_N


def _one_of(column: pa.ChunkedArray, name: str, values: list[Value]) -> np.ndarray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise SpecError("index.where", f"holds {kind}, which is no plain value", field=f"where.{name}")
    try:
        allowed = pa.array(values).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError("index.where", f"holds {kind}: {error}", field=f"where.{name}={values}") from None
    if name != "label":
        return np.asarray(pc.is_in(column, value_set=allowed))
    # most labels are single; those that are several are taken apart once for each that occurs
    names = pc.unique(column)
    asked = set(allowed.to_pylist())
    fitting = [one for one in names.to_pylist() if one is not None and asked & {one, *one.split(_JOINT)}]
    return np.asarray(pc.is_in(column, value_set=pa.array(fitting, kind)))
