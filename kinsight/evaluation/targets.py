"""From labels to what losses read: a relation, and a target for every record."""

import hashlib
import io
from typing import NamedTuple, assert_never

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import storage
from kinsight.data import Records
from kinsight.data.arrow import pc
from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.relations import Hierarchy, Relation, SameLabel, SharedLabels, SoftLabels
from kinsight.specs import relations as specs


class Targets(NamedTuple):
    """A relation, and what it reads: a row for every record."""

    relation: Relation
    target_N: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one record's target."""
        return tuple(self.target_N.shape[1:])

    def of(self, index_B: np.ndarray | Tensor) -> Tensor:
        """The targets of these record numbers."""
        return self.target_N[index_B]

    @property
    def fingerprint(self) -> str | None:
        """sha256 (hex) of what the records' own fingerprint does not hold: super-classes, likeness; None: nothing."""
        if isinstance(self.relation, SameLabel | SharedLabels):
            return None
        digest = hashlib.sha256(self.target_N.numpy().tobytes())
        if isinstance(self.relation, SoftLabels) and self.relation.similarity_CC is not None:
            digest.update(self.relation.similarity_CC.numpy().tobytes())
        return digest.hexdigest()


def build_targets(spec: specs.Relation, records: Records) -> Targets:
    """The relation a spec describes, over these records. Raises DataError where the labels do not fit it."""
    match spec:
        case specs.SameLabelSpec():
            return Targets(SameLabel(), torch.from_numpy(records.label_N))
        case specs.SharedLabelsSpec():
            return Targets(SharedLabels(spec.share, spec.weighted), label_rows(records.table["labels"]))
        case specs.HierarchySpec():
            columns = [records.label_N, *(records.numbers(name, field="relation.columns") for name in spec.columns)]
            return Targets(Hierarchy(spec.level_weights), torch.from_numpy(np.stack(columns, 1)))
        case specs.SoftLabelsSpec():
            matrix_CC = read_similarities(spec.path, records.num_classes)
            relation = SoftLabels(matrix_CC, spec.positive_from, spec.negative_below, spec.weighted)
            return Targets(relation, torch.from_numpy(records.label_N))
    assert_never(spec)


def label_rows(lists: pa.ChunkedArray) -> Tensor:
    """A column of lists of class numbers as int64 (N, L), padded with -1 to the longest list."""
    count_N = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offset_N = np.cumsum(count_N, dtype=np.int64) - count_N
    rows_NL = np.full((len(lists), max(int(count_N.max(initial=0)), 1)), -1, np.int64)
    row_M = np.repeat(np.arange(len(lists)), count_N)
    rows_NL[row_M, np.arange(len(row_M)) - offset_N[row_M]] = pc.list_flatten(lists).to_numpy()
    return torch.from_numpy(rows_NL)


def read_similarities(path: str, num_classes: int) -> Tensor:
    """The likeness of classes, float32 (C, C). Raises DataError for what is no such matrix."""
    try:
        found = np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)
    except (KinsightError, ValueError, EOFError) as error:
        raise DataError("data.similarities", f"{path}: {error}", field="relation.path") from None
    if found.shape != (num_classes, num_classes) or not np.issubdtype(found.dtype, np.floating):
        raise DataError(
            "data.similarities",
            f"{path} holds {found.dtype} of shape {found.shape}: expected floating numbers, one for each two of the "
            f"{num_classes} classes",
            field="relation.path",
            remedy="give the likeness of every class to every class, in the order of the class names",
        )
    try:
        SoftLabels(torch.from_numpy(found).to(torch.float32))
    except SpecError as error:
        raise DataError("data.similarities", f"{path}: {error.message}", field="relation.path") from None
    return torch.from_numpy(found).to(torch.float32)
