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
        record_M, class_M = _once(record_M, class_M)
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

    @cached_property
    def shared(self) -> bool:
        """Whether any image belongs to several of these classes."""
        return bool((self.record_M[1:] == self.record_M[:-1]).any())  # ascending

    @cached_property
    def _own_N1(self) -> IndexArray:
        """Where the classes of each image begin in `slot_M`, and the end; images behind the last labelled one lack."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.record_M))])

    def alike(self, one_T: IndexArray, other_T: IndexArray) -> npt.NDArray[np.bool_]:
        """Whether two images share a class, for T pairs of labelled images; time and memory go by their labels."""
        key_K = np.concatenate([self._keys(one_T), self._keys(other_T)])
        key_K.sort()
        alike_T = np.zeros(len(one_T), np.bool_)
        alike_T[key_K[1:][key_K[1:] == key_K[:-1]] // len(self)] = True
        return alike_T

    def _keys(self, record_T: IndexArray) -> IndexArray:
        """A number for each (place among these, class of the image there), all different."""
        start_T = self._own_N1[record_T]
        count_T = self._own_N1[record_T + 1] - start_T
        place_K = np.repeat(np.arange(len(record_T)), count_T)
        within_K = np.arange(len(place_K)) - np.repeat(np.cumsum(count_T) - count_T, count_T)
        return place_K * len(self) + self.slot_M[start_T[place_K] + within_K]

    def unlike(self, record: int) -> IndexArray:
        """All labelled images that share no class with this one, ascending."""
        own = self.slot_M[self._own_N1[record] : self._own_N1[record + 1]]
        shares_N = np.bincount(self.record_M, weights=np.isin(self.slot_M, own))
        return np.setdiff1d(np.flatnonzero(np.diff(self._own_N1)), np.flatnonzero(shares_N), assume_unique=True)

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


def _once(record_M: IndexArray, class_M: IndexArray) -> tuple[IndexArray, IndexArray]:
    """The pairs without repeated ones: an image that names a class twice belongs to it once."""
    key_M = record_M * (int(class_M.max(initial=0)) + 1) + class_M
    ascending_M = np.sort(key_M)
    if not (ascending_M[1:] == ascending_M[:-1]).any():
        return record_M, class_M
    kept_M = np.sort(np.unique(key_M, return_index=True)[1])
    return record_M[kept_M], class_M[kept_M]


def _occurrence(slot_T: IndexArray) -> IndexArray:
    """How often each entry's value stood before it."""
    order_T = np.argsort(slot_T, kind="stable")
    sorted_T = slot_T[order_T]
    first_T = np.concatenate([[True], sorted_T[1:] != sorted_T[:-1]])
    run_start_T = np.maximum.accumulate(np.where(first_T, np.arange(len(slot_T)), 0))
    occurrence_T = np.empty(len(slot_T), np.int64)
    occurrence_T[order_T] = np.arange(len(slot_T)) - run_start_T
    return occurrence_T
