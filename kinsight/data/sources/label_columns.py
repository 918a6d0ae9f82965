"""One column for each label: 1 shown, 0 not shown, nothing or ? or -1 where nobody knows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.errors import DataError

ALL = "*"
_MEANING = {"1": 1, "0": 0, "-1": -1, "?": -1, "": -1, "true": 1, "false": 0}


class LabelMatrix(NamedTuple):
    """Names of positive and of unknown labels, image after image, with int32 counts per image."""

    label_M: pa.ChunkedArray
    count_N: np.ndarray
    unknown_M: pa.ChunkedArray
    unknown_count_N: np.ndarray


def chosen_columns(asked: Sequence[str], names: Sequence[str], taken: Sequence[str | None]) -> list[str]:
    """The label columns, `*` standing for all columns that are not `taken`."""
    rest = [name for name in names if name not in taken and name not in asked]
    return [name for each in asked for name in (rest if each == ALL else [each])]


def label_matrix(table: pa.Table, columns: Sequence[str], place: Callable[[int], str]) -> LabelMatrix:
    """Raises DataError naming the row and column of a cell that says none of these."""
    state_NC = np.empty((table.num_rows, len(columns)), np.int8)
    for number, name in enumerate(columns):
        state_NC[:, number] = _states(table[name], name, place)
    names = pa.array(columns, pa.string())
    return LabelMatrix(*_listed(state_NC == 1, names), *_listed(state_NC == -1, names))


def _listed(chosen_NC: np.ndarray, names: pa.Array) -> tuple[pa.ChunkedArray, np.ndarray]:
    column_M = np.nonzero(chosen_NC)[1]
    return pa.chunked_array([names.take(pa.array(column_M))]), chosen_NC.sum(axis=1, dtype=np.int32)


def _states(column: pa.ChunkedArray, name: str, place: Callable[[int], str]) -> np.ndarray:
    """int8 1, 0 or -1 per row."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise DataError(
            "data.column-type",
            f"label column {name!r} holds {kind}: expected 1, 0 or nothing",
            field=place(0),
            remedy="name the columns that hold one label each, or set label_column",
        )
    texts = pc.fill_null(pc.ascii_trim_whitespace(column.cast(kind).cast(pa.string())), "")
    cells = texts.combine_chunks().dictionary_encode()
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.unify_dictionaries().combine_chunks()
    words = cells.dictionary.to_pylist()
    state_T = np.array([_MEANING.get(_plain(word), 9) for word in words], np.int8)
    state_N = state_T[cells.indices.to_numpy()] if words else np.zeros(0, np.int8)
    if (odd := np.flatnonzero(state_N == 9)).size:
        raise DataError(
            "data.label-cell",
            f"{texts[int(odd[0])].as_py()[:40]!r} in label column {name!r}: expected 1 (shown), 0 (not shown), or "
            "nothing, ? or -1 (unknown)",
            field=place(int(odd[0])),
            remedy="mend the cell; a column that is no label is to be left out of label_columns",
        )
    return state_N


def _plain(word: str) -> str:
    return word.lower().removesuffix(".0").removeprefix("+")
