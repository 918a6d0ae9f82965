"""True rows that a user gives: which rows of the base belong to each query.

Shapes: Q queries, K true rows.
"""

import numpy as np
import torch
from torch import Tensor

from kinsight import storage
from kinsight.data.stored import read_npy
from kinsight.data.vector_files import open_vector_file
from kinsight.errors import DataError
from kinsight.progress import warn

_HDF5 = ("hdf5", "h5")


def true_rows(address: storage.AddressLike, queries: int, base: int) -> Tensor:
    """From .npy, .ivecs, or the data set `neighbors` of an .hdf5 file: int64 (Q, K), -1 for none. Raises DataError."""
    place = storage.Address.parse(address)
    ending = place.name.lower().rpartition(".")[2]
    if ending == "npy":
        rows_QK = read_npy(place)
    else:
        file = open_vector_file(place, "neighbors" if ending in _HDF5 else None)
        rows_QK = file.rows(0, len(file))
    if rows_QK.ndim != 2 or rows_QK.dtype.kind not in "iu" or not rows_QK.shape[1]:
        raise _bad(place, f"is {rows_QK.dtype} {rows_QK.shape}: expected whole numbers, a line for each query")
    if len(rows_QK) != queries:
        raise _bad(place, f"has {len(rows_QK):,} lines for {queries:,} queries")
    rows_QK = rows_QK.astype(np.int64)
    wrong_QK = (rows_QK >= base) | (rows_QK < -1)
    if wrong_QK.any():
        line = int(wrong_QK.any(1).argmax())
        odd = rows_QK[line][wrong_QK[line]][0]
        raise _bad(place, f"line {line} names row {odd} of a base of {base:,}")
    if not (rows_QK >= 0).any():
        raise _bad(place, "no query has a true row")
    return torch.from_numpy(np.ascontiguousarray(rows_QK))


def that_count(query_QD: Tensor, truth_QK: Tensor, address: storage.AddressLike) -> tuple[Tensor, Tensor]:
    """Queries that have true rows, and these; how many have none is said."""
    some_Q = (truth_QK >= 0).any(1)
    if some_Q.all():
        return query_QD, truth_QK
    shown = storage.Address.parse(address)
    warn(f"{shown}: {int((~some_Q).sum()):,} of {len(some_Q):,} queries have no true row; they do not count")
    return query_QD[some_Q], truth_QK[some_Q]


def _bad(place: storage.Address, what: str) -> DataError:
    remedy = "give rows of this base, a line for each query; -1 stands for none"
    return DataError("partition.truth", what, field=str(place), remedy=remedy)
