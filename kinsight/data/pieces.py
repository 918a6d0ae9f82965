"""Matrices that can only be read in runs of rows, seen as if any rows could be asked for: HDF5, Parquet.

Shapes: N rows, D numbers each, P pieces, B rows asked for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import storage
from kinsight.data.arrow import pc
from kinsight.data.stored import unusable

Read = Callable[[int], np.ndarray]


class Pieces:
    """read(p): rows starts[p]..starts[p + 1] - 1. The piece read last is kept, for who goes forwards."""

    def __init__(self, starts: np.ndarray, dim: int, dtype: np.dtype, read: Read) -> None:
        self._starts, self._read = starts, read
        self.shape, self.dtype = (int(starts[-1]), dim), dtype
        self._kept: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        """Rows of a slice, or by ascending numbers."""
        row_B = np.arange(*which.indices(len(self))) if isinstance(which, slice) else which
        out_BD = np.empty((len(row_B), self.shape[1]), self.dtype)
        edge_P = np.searchsorted(row_B, self._starts)
        for number, start in enumerate(self._starts[:-1].tolist()):
            here = slice(int(edge_P[number]), int(edge_P[number + 1]))
            if here.stop > here.start:
                out_BD[here] = self._piece(number)[row_B[here] - start]
        return out_BD

    def _piece(self, number: int) -> np.ndarray:
        if self._kept is None or self._kept[0] != number:
            self._kept = None  # the old one goes before the new one comes
            self._kept = (number, self._read(number))
        return self._kept[1]


def parquet_rows(place: storage.Address, paths: Sequence[Path], column: str) -> Pieces:
    """A column of lists of numbers in files that follow each other, a row group at a time. Raises DataError."""
    files = [open_parquet(place, path, column) for path in paths]
    groups = [(file, group) for file in files for group in range(file.num_row_groups)]
    sizes = [file.metadata.row_group(group).num_rows for file, group in groups]

    def read(number: int) -> np.ndarray:
        file, group = groups[number]
        try:
            return list_matrix(file.read_row_group(group, columns=[column])[column], place, column)
        except (pa.ArrowException, OSError) as error:
            raise unusable(place, "parquet", f"has no readable column {column!r}: {error}", "copy it again") from None

    if not sum(sizes):
        return Pieces(np.zeros(1, np.int64), 1, np.dtype("f4"), read)
    first_BD = read(next(number for number, size in enumerate(sizes) if size))

    def same(number: int) -> np.ndarray:
        found_BD = read(number)
        if found_BD.shape[1:] != first_BD.shape[1:]:
            raise _uneven(place, column)
        return found_BD

    return Pieces(np.cumsum([0, *sizes]), first_BD.shape[1], first_BD.dtype, same)


def open_parquet(place: storage.Address, path: Path, column: str) -> pq.ParquetFile:
    """A Parquet file with a column of lists of numbers. Raises DataError."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unusable(place, "parquet", f"is no readable Parquet file: {error}", "copy it again") from None
    schema = file.schema_arrow
    if column not in schema.names:
        fitting = [each.name for each in schema if _is_matrix(each.type)]
        remedy = f"rename the column of vectors, {' or '.join(fitting)}" if fitting else "give a file of vectors"
        raise unusable(place, "parquet", f"has no column {column!r}", remedy)
    if not _is_matrix(schema.field(column).type):
        what = f"column {column!r} holds {schema.field(column).type}"
        raise unusable(place, "parquet", what, "give a column with lists of numbers")
    return file


def list_matrix(column: pa.ChunkedArray, place: storage.Address, name: str) -> np.ndarray:
    """Lists of one length as a matrix of their numbers. Raises DataError."""
    lengths = pc.unique(pc.list_value_length(column))
    if column.null_count or len(lengths) > 1:
        raise _uneven(place, name)
    flat = pc.list_flatten(column).combine_chunks()
    if flat.null_count:
        raise unusable(place, "parquet", f"column {name!r} has lists with missing numbers", "drop those rows")
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), -1 if len(column) else 0)


def _is_matrix(kind: pa.DataType) -> bool:
    is_list = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _uneven(place: storage.Address, name: str) -> Exception:
    return unusable(place, "parquet", f"column {name!r} has rows of different lengths", "drop the odd rows")
