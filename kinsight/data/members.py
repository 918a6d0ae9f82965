"""Which images show which class, as arrays a sampler can draw from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kinsight.data.random import Purpose, words
from kinsight.data.records import Records
from kinsight.errors import DataError

IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Members:
    """Pairs (image, class), an image once for each of its labels: record_M, class_M int64. Only classes with
    `least` images or more are kept; they are numbered 0 to U-1 here, `class_U` are their numbers in the records.
    """

    record_M: IndexArray
    slot_M: IndexArray
    class_U: IndexArray
    num_single: int

    @classmethod
    def of(cls, records: Records, *, least: int) -> "Members":
        """Those of all labelled records."""
        offset_N1, class_M = records.labels_csr
        record_M = np.repeat(np.arange(len(records)), np.diff(offset_N1))
        count_C = np.bincount(class_M, minlength=1)
        class_U = np.flatnonzero(count_C >= least)
        slot_C = np.full(len(count_C), -1, np.int64)
        slot_C[class_U] = np.arange(len(class_U))
        kept_M = slot_C[class_M] >= 0
        return cls(record_M[kept_M], slot_C[class_M[kept_M]], class_U, int((count_C == 1).sum()))

    def __len__(self) -> int:
        return len(self.class_U)

    @cached_property
    def count_U(self) -> IndexArray:
        """Images of each class."""
        return np.bincount(self.slot_M, minlength=len(self.class_U))

    @cached_property
    def start_U(self) -> IndexArray:
        """Where each class begins in `shuffled`."""
        return np.cumsum(self.count_U) - self.count_U

    def shuffled(self, seed: int, epoch: int) -> IndexArray:
        """Records class after class, in random order within each."""
        key_M = words(seed, epoch, self.record_M, 1, purpose=Purpose.ORDER)[:, 0]
        return self.record_M[np.lexsort((key_M, self.slot_M))]

    def draw(self, slot_T: IndexArray, samples: int, seed: int, epoch: int) -> IndexArray:
        """(T, samples) records for classes called one after the other: each class's images come round in turn."""
        record_M = self.shuffled(seed, epoch)
        place_TS = _occurrence(slot_T)[:, None] * samples + np.arange(samples)
        place_TS %= self.count_U[slot_T][:, None]
        return record_M[self.start_U[slot_T][:, None] + place_TS]

    def group_U(self, number_N: IndexArray, records: Records, column: str) -> IndexArray:
        """The group of each class, by those of its images. Raises DataError where a class lies in several."""
        number_M = number_N[self.record_M]
        first_U = np.full(len(self.class_U), -1, np.int64)
        first_U[self.slot_M[::-1]] = number_M[::-1]
        odd_M = number_M != first_U[self.slot_M]
        if odd_M.any():
            place = int(np.flatnonzero(odd_M)[0])
            name = records.class_names[int(self.class_U[self.slot_M[place]])]
            raise DataError(
                "data.super-class",
                f"{records.place(int(self.record_M[place]))}: class {name} lies in several super-classes",
                field=f"sampler.column={column}",
                remedy="give every image of a class the same super-class",
            )
        return first_U


def _occurrence(slot_T: IndexArray) -> IndexArray:
    """How often each entry's value stood before it."""
    order_T = np.argsort(slot_T, kind="stable")
    sorted_T = slot_T[order_T]
    first_T = np.concatenate([[True], sorted_T[1:] != sorted_T[:-1]])
    run_start_T = np.maximum.accumulate(np.where(first_T, np.arange(len(slot_T)), 0))
    occurrence_T = np.empty(len(slot_T), np.int64)
    occurrence_T[order_T] = np.arange(len(slot_T)) - run_start_T
    return occurrence_T
