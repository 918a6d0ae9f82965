"""Columns of a table become paths, labels and groups: what CSV and Parquet share."""

import ast
import difflib
import json
import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.records import OWN_COLUMNS
from kinsight.data.sources.label_columns import ALL, chosen_columns, label_matrix
from kinsight.data.sources.parsed import Parsed
from kinsight.errors import DataError
from kinsight.specs.data import Csv, Parquet

GROUP = "group"
_INTEGERS = re.compile(r"[+-]?[0-9]+(?:[\s,;|]+[+-]?[0-9]+)+")


def wanted_columns(source: Csv | Parquet, names: Sequence[str], where: str, *, labelled: bool) -> None:
    """Check that the columns the source names are there. Raises DataError with the nearest name."""
    asked = [("image_column", source.image_column)]
    if source.label_columns is not None:
        asked += [("label_columns", name) for name in source.label_columns if name != ALL]
    # Where no labels are wanted, the column that nobody named need not be there.
    elif labelled or "label_column" in source.model_fields_set:
        asked.append(("label_column", source.label_column))
    if source.group_column is not None:
        asked.append(("group_column", source.group_column))
    for setting, name in asked:
        if name not in names:
            free = [other for other in names if other not in [column for _, column in asked]]
            near = difflib.get_close_matches(name.lower(), [other.lower() for other in free], n=1, cutoff=0.4)
            nearest = next((other for other in free if near and other.lower() == near[0]), None)
            raise DataError(
                "data.column",
                f"has no column {name!r}; its columns are {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}",
                field=where,
                remedy=_rename(setting, name, nearest),
            )


def _rename(setting: str, name: str, nearest: str | None) -> str:
    if setting == "label_columns":  # one of several: the others stay as they are
        return f"did you mean {nearest!r} instead of {name!r}?" if nearest else f"take {name!r} out of {setting}"
    return f"set {setting} to {nearest!r}" if nearest else f"set {setting} to one of them"


def parsed_table(table: pa.Table, source: Csv | Parquet, place: Callable[[int], str], *, labelled: bool) -> Parsed:
    """Records of a table's rows. Raises DataError naming the row that has no path or no label."""
    path_N = _paths(table[source.image_column], source.image_column, place)
    if source.label_columns is not None:
        return _multi_hot(table, source, path_N, place, labelled=labelled)
    if source.label_column in table.column_names:
        label_M, count_N = label_texts(table[source.label_column], source.label_column, place)
    else:
        label_M, count_N = pa.chunked_array([], pa.string()), np.zeros(len(path_N), np.int32)
    if labelled and (bare := np.flatnonzero(count_N == 0)).size:
        raise DataError(
            "data.label-missing",
            f"column {source.label_column!r} is empty here ({bare.size} such rows)",
            field=place(int(bare[0])),
            remedy="fill it, or remove the row",
        )
    group_N, extra = _further(table, source, {source.image_column, source.label_column})
    return Parsed(path_N, label_M, count_N, place=place, group_N=group_N, extra=extra)


def _multi_hot(
    table: pa.Table, source: Csv | Parquet, path_N: pa.ChunkedArray, place: Callable[[int], str], *, labelled: bool
) -> Parsed:
    """Records of a table with a column for each label."""
    assert source.label_columns is not None
    named_group = source.group_column or (GROUP if GROUP not in source.label_columns else None)
    columns = chosen_columns(source.label_columns, table.column_names, (source.image_column, named_group))
    found = label_matrix(table, columns, place)
    if labelled and (bare := np.flatnonzero(found.count_N == 0)).size:
        raise DataError(
            "data.label-missing",
            f"no label column holds 1 here ({bare.size} such rows)",
            field=place(int(bare[0])),
            remedy="mark a label, or remove the row",
        )
    group_N, extra = _further(table, source, {source.image_column, *columns})
    return Parsed(
        path_N,
        found.label_M,
        found.count_N,
        place=place,
        kind="name",
        group_N=group_N,
        extra=extra,
        classes=columns,
        asked=columns,
        unknown_M=found.unknown_M,
        unknown_count_N=found.unknown_count_N,
    )


def _further(
    table: pa.Table, source: Csv | Parquet, taken: set[str]
) -> tuple[pa.ChunkedArray | None, dict[str, pa.ChunkedArray]]:
    """The groups, and the columns that mean nothing to us."""
    extra = {
        f"{name}_" if name in OWN_COLUMNS else name: table[name] for name in table.column_names if name not in taken
    }
    grouping = source.group_column or (GROUP if GROUP in table.column_names and GROUP not in taken else None)
    if grouping == GROUP:
        del extra[f"{GROUP}_"]
    return (table[grouping] if grouping is not None else None), extra


def _paths(column: pa.ChunkedArray, name: str, place: Callable[[int], str]) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(
            "data.column-type",
            f"column {name!r} holds {column.type}, not paths",
            field=place(0),
            remedy="name a column of paths or addresses, or of the images' bytes",
        )
    column = pc.utf8_trim_whitespace(column)
    if (empty := np.flatnonzero(pc.fill_null(pc.equal(column, ""), True).to_numpy())).size:
        raise DataError(
            "data.path-missing", f"column {name!r} is empty here", field=place(int(empty[0])), remedy="fill it"
        )
    return column.cast(pa.string())


def label_texts(column: pa.ChunkedArray, name: str, place: Callable[[int], str]) -> tuple[pa.ChunkedArray, np.ndarray]:
    """A column of integers, texts, or lists of these as flat label texts and int32 counts per row."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return label_texts(column.cast(kind.value_type), name, place)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        count_N = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int32)
        rows = np.repeat(np.arange(len(count_N)), count_N)
        flat, one = label_texts(pc.list_flatten(column), name, lambda i: place(int(rows[i])))
        return flat, np.bincount(rows, weights=one, minlength=len(count_N)).astype(np.int32)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _from_cells(column.cast(pa.string()))
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_floating(kind):
        column = _whole(column, name, place)
    elif not pa.types.is_integer(kind):
        raise DataError(
            "data.column-type",
            f"column {name!r} holds {kind}; labels are integers, texts, or lists of these",
            field=place(0),
            remedy="convert the column",
        )
    valid = column.is_valid().to_numpy()
    return column.drop_null().cast(pa.string()), valid.astype(np.int32)


def _whole(column: pa.ChunkedArray, name: str, place: Callable[[int], str]) -> pa.ChunkedArray:
    value_N = pc.fill_null(column, 0).to_numpy()
    if (odd := np.flatnonzero(np.trunc(value_N) != value_N)).size:
        raise DataError(
            "data.label-fraction",
            f"label {value_N[odd[0]]} of column {name!r} is not a whole number",
            field=place(int(odd[0])),
            remedy="store labels as integers or texts",
        )
    return column.cast(pa.int64())


def _from_cells(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Texts, among which lists may stand: `[1, 2]`, `["a", "b"]`, `1 2`, `1;2`, `1|2`. Equal cells are split once."""
    cells = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.unify_dictionaries().combine_chunks()
    texts = [_split_cell(cell.strip()) for cell in cells.dictionary.to_pylist()]
    lists = pa.array(texts, pa.list_(pa.string())).take(cells.indices)
    count_N = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int32)
    return pa.chunked_array([lists.flatten()], pa.string()), count_N


def _split_cell(cell: str) -> list[str]:
    if _INTEGERS.fullmatch(cell):
        return re.split(r"[\s,;|]+", cell)
    if cell.startswith("[") and cell.endswith("]"):
        for parse in (json.loads, ast.literal_eval):
            try:
                items = parse(cell)
            except (ValueError, SyntaxError, RecursionError):
                continue
            return [str(item).strip() for item in items]
        return cell[1:-1].split()  # as numpy prints an array
    return [cell] if cell else []
