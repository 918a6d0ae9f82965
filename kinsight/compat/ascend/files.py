"""The files of run_dcnet.py: `<data_path>/<learn_name>.npy`, `<data_path>/<data_name>/{base,query,gt}.npy`.

Vectors may be of any numbers and in any order of memory: they are read as float32. Shapes: Q queries, K true rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.data.vector_files import VectorFile, open_vector_file
from kinsight.errors import DataError
from kinsight.partition.given import that_count, true_rows


@dataclass(frozen=True)
class Evaluation:
    """base: left on disk. query_QD: float32. truth_QK: int64, rows of the base, -1 for none; every query has some."""

    name: str
    base: VectorFile
    query_QD: Tensor
    truth_QK: Tensor
    stamp: list[list[int]]


def learn_file(values: Values, metric: str) -> VectorFile:
    """The vectors to learn from. Raises DataError, StorageError."""
    name = values["learn_name"]
    return _vectors(_place(values, name if name.endswith(".npy") else f"{name}.npy", "learn_name"), metric)


def evaluation(values: Values, metric: str, dim: int, expected: str) -> Evaluation:
    """What recall is measured on. expected: whose dimensions these are. Raises DataError, StorageError."""
    name = values["data_name"].strip("/")
    places = [_place(values, f"{name}/{file}.npy", "data_name") for file in ("base", "query", "gt")]
    base, queries = (_vectors(place, metric) for place in places[:2])
    for each in (base, queries):
        check_dim(each, dim, expected)
    truth_QK = true_rows(places[2], len(queries), len(base))
    query_QD, truth_QK = that_count(torch.from_numpy(queries.take(np.arange(len(queries)))), truth_QK, places[2])
    return Evaluation(name.replace("/", "_"), base, query_QD, truth_QK, [stamp(each) for each in places])


def check_dim(vectors: VectorFile, dim: int, expected: str) -> None:
    """Raises DataError for vectors of another length."""
    if vectors.dim != dim:
        raise DataError(
            "dcnet.dimension",
            f"holds vectors of {vectors.dim} dimensions, {expected} says {dim}",
            field=str(vectors.place),
            remedy="give vectors of that length, or the right --param_list or --ai_center",
        )


def stamp(place: storage.Address) -> list[int]:
    """What changes when a file does: its size, and its time of change where it is local."""
    time = place.local_path.stat().st_mtime_ns if place.is_local else 0
    return [storage.size(place), time]


def _vectors(place: storage.Address, metric: str) -> VectorFile:
    return open_vector_file(place).for_metric(metric)


def _place(values: Values, relative: str, flag: str) -> storage.Address:
    place = storage.Address.parse(values["data_path"]).child(relative)
    if not storage.exists(place):
        raise DataError(
            "dcnet.missing",
            f"{place} is not there",
            field=f"--{flag}",
            remedy="lay the data out as DATA_PATH/LEARN_NAME.npy and DATA_PATH/DATA_NAME/{base,query,gt}.npy",
        )
    return place
