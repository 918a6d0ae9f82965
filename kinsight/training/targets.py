"""From labels to what losses read: a relation, and a target for every record."""

import io
from typing import NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor

from kinsight import storage
from kinsight.data import Records
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


def build_targets(spec: specs.Relation, records: Records) -> Targets:
    """The relation a spec describes, over these records. Raises DataError where the labels do not fit it."""
    match spec:
        case specs.SameLabelSpec():
            return Targets(SameLabel(), torch.from_numpy(records.label_N))
        case specs.SharedLabelsSpec():
            return Targets(SharedLabels(spec.share), _label_rows(records))
        case specs.HierarchySpec():
            columns = [records.label_N, *(records.numbers(name, field="relation.columns") for name in spec.columns)]
            return Targets(Hierarchy(tuple(spec.weights)), torch.from_numpy(np.stack(columns, 1)))
        case specs.SoftLabelsSpec():
            matrix_CC = _similarities(spec.path, records.num_classes)
            return Targets(
                SoftLabels(matrix_CC, spec.positive_from, spec.negative_below), torch.from_numpy(records.label_N)
            )
    assert_never(spec)


def _label_rows(records: Records) -> Tensor:
    """(N, L) class numbers, padded with -1 to the longest list."""
    offset_N1, label_M = records.labels_csr
    count_N = np.diff(offset_N1)
    rows_NL = np.full((len(records), max(int(count_N.max(initial=0)), 1)), -1, np.int64)
    record_M = np.repeat(np.arange(len(records)), count_N)
    rows_NL[record_M, np.arange(len(label_M)) - offset_N1[record_M]] = label_M
    return torch.from_numpy(rows_NL)


def _similarities(path: str, num_classes: int) -> Tensor:
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
