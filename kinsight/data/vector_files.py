"""Vectors in files of the field, left on disk: npy, fvecs, bvecs and ivecs, HDF5 of ann-benchmarks, Parquet.

A file is asked for rows a block at a time, or for some rows by number; nothing is read before.
Shapes: N vectors, D dimensions, B rows of a block.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kinsight import storage
from kinsight.data.pieces import Pieces, parquet_rows
from kinsight.data.stored import check_npy_vectors, read_npy, unusable
from kinsight.errors import DataError, SpecError

BLOCK_ROWS = 1 << 16
VECTOR_COLUMN = "vector"
_PIECE_ROWS = 1 << 14
_FINGERPRINT_ROWS = 1000
_LOOKED_AT = 100_000  # records whose length is compared with the first one's
_RECORDS = {"fvecs": np.dtype("<f4"), "ivecs": np.dtype("<i4"), "bvecs": np.dtype("u1")}
_HDF5 = ("hdf5", "h5")
ENDINGS = ("npy", *_RECORDS, *_HDF5, "parquet")


class VectorFile:
    """Rows of numbers at an address, from `open_vector_file`. rows_ND: a memory map, pieces, or an array.

    What it gives as float32 is finite, and with `refuse_zero` not zero: else DataError names the row.
    """

    def __init__(self, place: storage.Address, rows_ND: Any, refuse_zero: bool = False) -> None:
        self.place, self._rows_ND, self._refuse_zero = place, rows_ND, refuse_zero
        self._first = 0
        self.count, self.dim = rows_ND.shape
        self.dtype: np.dtype = rows_ND.dtype

    def __len__(self) -> int:
        return self.count

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop-1 as they are stored."""
        first = self._first
        return np.asarray(self._rows_ND[first + start : first + min(stop, self.count)])

    def take(self, row_N: np.ndarray) -> np.ndarray:
        """Some rows, float32, in the order of `row_N`; int64 numbers, none twice."""
        order_N = np.argsort(row_N, kind="stable")  # files are read forwards, and HDF5 wants nothing else
        out_ND = np.empty((len(row_N), self.dim), np.float32)
        for start in range(0, len(row_N), BLOCK_ROWS):
            here_B = order_N[start : start + BLOCK_ROWS]
            row_B = row_N[here_B] + self._first
            part_BD = as_float32(self._rows_ND[row_B])
            self._check(part_BD, row_B)
            out_ND[here_B] = part_BD
        return out_ND

    def blocks(self, rows: int = BLOCK_ROWS, *, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first row, float32 rows) in order, from row `start` on."""
        for first in range(start, self.count, rows):
            part_BD = as_float32(self.rows(first, first + rows))
            self._check(part_BD, np.arange(self._first + first, self._first + first + len(part_BD)))
            yield first, part_BD

    def for_metric(self, metric: str) -> "VectorFile":
        """The same rows, zero vectors refused where they have no similarity."""
        found = self.between(0, self.count)
        found._refuse_zero = metric == "cosine"
        return found

    def between(self, start: int, stop: int) -> "VectorFile":
        """Rows start..stop-1 alone, under numbers from 0; messages name those of the file."""
        found = VectorFile(self.place, self._rows_ND, self._refuse_zero)
        found._first, found.count = self._first + start, stop - start
        return found

    def fingerprint(self) -> list[Any]:
        """What vectors are known by, for JSON: others at the same address have another. Reads a thousand of them."""
        row_M = np.unique(np.linspace(0, self.count - 1, _FINGERPRINT_ROWS).astype(np.int64))
        digest = hashlib.sha256(self.take(row_M).tobytes()).hexdigest()
        found = storage.stat(self.place)  # None for a folder
        return [self.count, self.dim, digest, *([] if found is None else [found.size, found.version])]

    def _check(self, part_BD: np.ndarray, row_B: np.ndarray) -> None:
        bad_B = ~np.isfinite(part_BD).all(1)
        if bad_B.any():
            raise self._bad(int(row_B[bad_B.argmax()]), "not-finite", "holds NaN, infinity, or more than float32 holds")
        if self._refuse_zero and not (some_B := part_BD.any(1)).all():
            raise self._bad(int(row_B[some_B.argmin()]), "zero-vector", "is a zero vector: it has no cosine similarity")

    def _bad(self, row: int, code: str, what: str) -> DataError:
        remedy = "drop such rows, and look for what made them: a diverged model, a broken image"
        return DataError(f"vectors.{code}", f"row {row} {what}", field=str(self.place), remedy=remedy)


def as_float32(row_BD: np.ndarray) -> np.ndarray:
    """A copy that may be written to, as torch wants it; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return np.array(row_BD, np.float32, order="C")


def is_vector_file(place: storage.Address) -> bool:
    """Whether an address ends as one of these files."""
    return _ending(place) in ENDINGS


def open_vector_file(address: storage.AddressLike, dataset: str | None = None) -> VectorFile:
    """The vectors of a file; remote ones are copied into the cache first.

    dataset: of an HDF5 file, default `train`; or the column of a Parquet file, default `vector`.
    Raises StorageError where nothing is, DataError for truncated files and those of other contents, SpecError for
    another ending, and where `dataset` means nothing.
    """
    place = storage.Address.parse(address)
    ending = _ending(place)
    if dataset is not None and ending not in (*_HDF5, "parquet"):
        raise SpecError("vectors.dataset", "has no effect: the file holds one set of vectors", field=f"{place}")
    if ending == "npy":
        rows_ND = read_npy(place)
        check_npy_vectors(place, rows_ND)
    elif ending in _RECORDS:
        rows_ND = _records(place, storage.copy_in(place), _RECORDS[ending])
    elif ending in _HDF5:
        rows_ND = _hdf5(place, storage.copy_in(place), dataset or "train")
    elif ending == "parquet":
        rows_ND = parquet_rows(place, [storage.copy_in(place)], dataset or VECTOR_COLUMN)
    else:
        raise SpecError(
            "vectors.format",
            "is none of the files that vectors come in",
            field=str(place),
            remedy=f"give a file that ends in {', '.join(ENDINGS)}",
        )
    if not len(rows_ND):
        raise DataError("vectors.empty", "holds no vector", field=str(place), remedy="give a file with some")
    return VectorFile(place, rows_ND)


def _ending(place: storage.Address) -> str:
    return place.name.rpartition(".")[2].lower()


def _records(place: storage.Address, path: Path, dtype: np.dtype) -> np.ndarray:
    """Records of an int32 length and as many numbers."""
    size = path.stat().st_size
    if not size:
        return np.empty((0, 1), dtype)
    with path.open("rb") as file:
        head = file.read(4)
    dim = int.from_bytes(head, "little", signed=True)
    width = 4 + dim * dtype.itemsize
    if len(head) < 4 or dim < 1 or size % width:
        raise unusable(
            place,
            "truncated",
            f"holds {size:,} bytes, which are no whole records of {dim} numbers ({width} bytes each)",
            "copy it again, whole; its ending must say what the numbers are",
        )
    record = np.dtype([("dim", "<i4"), ("row", dtype, (dim,))])
    table = np.memmap(path, record, "r")
    looked_M = np.unique(np.linspace(0, len(table) - 1, _LOOKED_AT).astype(np.int64))
    odd_M = looked_M[table["dim"][looked_M] != dim]
    if len(odd_M):
        row = int(odd_M[0])
        what = f"record {row} says it has {int(table['dim'][row])} numbers, the first one {dim}"
        raise unusable(place, "records", what, "all vectors must be of one length, and the ending must say their type")
    return table["row"]


def _hdf5(place: storage.Address, path: Path, dataset: str) -> Pieces:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise unusable(place, "hdf5", f"is no whole HDF5 file: {error}", "copy it again") from None
    found = file.get(dataset)
    if not isinstance(found, h5py.Dataset) or found.ndim != 2 or found.dtype.kind not in "fiu":
        known = [name for name, each in file.items() if isinstance(each, h5py.Dataset) and each.ndim == 2]
        raise unusable(
            place,
            "dataset",
            f"has no matrix of numbers {dataset!r}",
            f"it has {', '.join(known) or 'no matrix at all'}",
        )
    rows: Any = found  # which rows are asked for costs h5py more time than reading whole runs
    starts = np.append(np.arange(0, len(rows), _PIECE_ROWS), len(rows))
    return Pieces(starts, rows.shape[1], rows.dtype, lambda number: rows[starts[number] : starts[number + 1]])
