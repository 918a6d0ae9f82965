"""Which image goes into which file: a function of the records and the settings alone, so that a job can go on."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kinsight.converting.stratify import stratified
from kinsight.data import Records
from kinsight.specs.convert import ConvertSpec, ToImageList

_LIST_PART = 1024  # images of a list that are looked at together
ENDINGS = {"tfrecord": "tfrecord", "parquet": "parquet", "shards": "tar", "image-list": "part"}


class Part(NamedTuple):
    """One file: its name behind the prefix, what it is for (train or test), and the records in it."""

    name: str
    use: str
    row_N: npt.NDArray[np.int64]


def plan(records: Records, spec: ConvertSpec) -> list[Part]:
    """All files, those for training first."""
    is_test_N = np.zeros(len(records), np.bool_)
    if spec.test_ratio:
        offset_N1, label_M = records.labels_csr
        is_test_N = stratified(offset_N1, label_M, records.num_classes, spec.test_ratio, spec.seed)
    size = _LIST_PART if isinstance(spec.to, ToImageList) else spec.per_file
    ending = ENDINGS[spec.to.kind]
    parts: list[Part] = []
    for number, (use, chosen_N) in enumerate((("train", ~is_test_N), ("test", is_test_N))):
        row_N = np.flatnonzero(chosen_N)
        if spec.shuffle:
            row_N = np.random.default_rng([spec.seed, number]).permutation(row_N)
        parts += [
            Part(f"{use}_{start // size:05d}.{ending}", use, row_N[start : start + size])
            for start in range(0, len(row_N), size)
        ]
    return parts
