"""Which images meet in a batch. A sampler is a pure function of (labels, batch size, seed, epoch).

Batches are global: rank r of `world` takes `numpy.array_split(batch, world)[r]`, so ranks change nothing.
"""

import warnings
from functools import cached_property
from typing import Protocol, assert_never

import numpy as np
import numpy.typing as npt

from kinsight.data.random import Purpose, words
from kinsight.errors import DataError
from kinsight.specs.train import PerClassSampler, ShuffleSampler

IndexArray = npt.NDArray[np.int64]


class Sampler(Protocol):
    """What the training loop asks for batches."""

    @property
    def num_batches(self) -> int:
        """Batches in every epoch."""
        ...

    def epoch(self, epoch: int) -> list[IndexArray]:
        """The epoch's global batches of record numbers, int64."""
        ...


def build_sampler(
    spec: ShuffleSampler | PerClassSampler, label_N: IndexArray, *, batch_size: int, seed: int
) -> Sampler:
    """The sampler a spec describes, over records with these class numbers.

    Raises DataError where the data cannot fill a batch.
    """
    match spec:
        case ShuffleSampler():
            return ShuffledBatches(len(label_N), batch_size=batch_size, seed=seed)
        case PerClassSampler(samples_per_class=samples):
            return ClassBatches(label_N, batch_size=batch_size, samples_per_class=samples, seed=seed)
    assert_never(spec)


class ShuffledBatches:
    """Every image once an epoch, in random order.

    All batches are full but the last. Where that one would be less than half full, the last two share their images,
    since statistics over a handful of images are poor ones.
    """

    def __init__(self, num_images: int, *, batch_size: int, seed: int) -> None:
        _check_batch(num_images, batch_size)
        self._num_images, self._batch_size, self._seed = num_images, batch_size, seed

    @property
    def num_batches(self) -> int:
        return -(-self._num_images // self._batch_size)

    def epoch(self, epoch: int) -> list[IndexArray]:
        order_N = _shuffled(self._num_images, self._seed, epoch)
        cuts = list(range(self._batch_size, self._num_images, self._batch_size))
        tail = self._num_images - (cuts[-1] if cuts else 0)
        if cuts and 2 * tail < self._batch_size:
            cuts[-1] -= (self._batch_size - tail) // 2
        return np.split(order_N, cuts)


class ClassBatches:
    """Batches of `batch_size / samples_per_class` different classes with equally many images each.

    Classes come round one after the other in random order, so each is seen equally often; an epoch shows about as
    many images as there are. A class's images come round in random order too; a class with fewer than
    `samples_per_class` gives all it has and repeats some. A class with a single image has no pair and is left out.
    """

    def __init__(self, label_N: IndexArray, *, batch_size: int, samples_per_class: int, seed: int) -> None:
        assert batch_size % samples_per_class == 0, (batch_size, samples_per_class)
        _check_batch(len(label_N), batch_size)
        self._samples, self._seed = samples_per_class, seed
        self._classes_per_batch = batch_size // samples_per_class
        self._label_N = label_N
        count_C = np.bincount(label_N)
        self._class_U = np.flatnonzero(count_C >= 2)
        self._count_U = count_C[self._class_U]
        self._check_classes(num_single=int((count_C == 1).sum()), batch_size=batch_size)
        self.num_batches = -(-int(self._count_U.sum()) // batch_size)

    @cached_property
    def _slot_N(self) -> IndexArray:
        """Each record's place among the usable classes, -1 for records of the others."""
        slot_C = np.full(int(self._label_N.max()) + 1, -1, np.int64)
        slot_C[self._class_U] = np.arange(len(self._class_U))
        return slot_C[self._label_N]

    def epoch(self, epoch: int) -> list[IndexArray]:
        class_T = self._class_order(epoch)
        turn_T = _occurrence(class_T)
        image_M = self._images_by_class(epoch)
        start_U = np.cumsum(self._count_U) - self._count_U
        place_TS = turn_T[:, None] * self._samples + np.arange(self._samples)
        place_TS %= self._count_U[class_T][:, None]
        index_TS = image_M[start_U[class_T][:, None] + place_TS]
        return list(index_TS.reshape(self.num_batches, -1))

    def _class_order(self, epoch: int) -> IndexArray:
        """Classes of all places of the epoch: permutations end to end, without a class twice in one batch."""
        needed, per_batch, number = self.num_batches * self._classes_per_batch, self._classes_per_batch, 0
        parts: list[IndexArray] = []
        filled = 0
        while filled < needed:
            order_U = _shuffled(len(self._class_U), self._seed, epoch, purpose=Purpose.CLASSES, round_=number)
            if begun := filled % per_batch:  # a batch that the previous permutation has begun
                met = np.isin(order_U, parts[-1][-begun:])
                fresh = order_U[~met][: per_batch - begun]  # completes that batch
                order_U = np.concatenate([fresh, order_U[~np.isin(order_U, fresh)]])
            parts.append(order_U)
            filled += len(order_U)
            number += 1
        return np.concatenate(parts)[:needed]

    def _images_by_class(self, epoch: int) -> IndexArray:
        """Records of the usable classes, class after class, in random order within each."""
        record_M = np.flatnonzero(self._slot_N >= 0)
        key_M = words(self._seed, epoch, record_M, 1, purpose=Purpose.ORDER)[:, 0]
        return record_M[np.lexsort((key_M, self._slot_N[record_M]))]

    def _check_classes(self, *, num_single: int, batch_size: int) -> None:
        usable, needed = len(self._class_U), self._classes_per_batch
        if usable < max(2, needed):
            single = f" ({num_single} more have a single image, which has no pair)" if num_single else ""
            raise DataError(
                "data.too-few-classes",
                f"{usable} {'class has' if usable == 1 else 'classes have'} two or more images{single}; "
                f"a batch of {batch_size} with {self._samples} "
                f"images per class needs {max(2, needed)}",
                field="sampler.samples_per_class",
                remedy="give more classes a second image, or set sampler.kind=shuffle"
                if usable < 2
                else f"set batch.size to at most {usable * self._samples}, or add images to more classes",
            )
        if num_single:
            warnings.warn(
                f"{num_single} of {usable + num_single} classes have a single image, which has no pair: "
                "they are left out of training",
                stacklevel=4,
            )


def _check_batch(num_images: int, batch_size: int) -> None:
    if batch_size > num_images:
        raise DataError(
            "data.batch-too-large",
            f"batch.size={batch_size} is more than the {num_images} images there are",
            field="batch.size",
            remedy=f"set batch.size to at most {num_images}",
        )


def _shuffled(count: int, seed: int, epoch: int, *, purpose: Purpose = Purpose.ORDER, round_: int = 0) -> IndexArray:
    """A random permutation of range(count)."""
    key_N = words(seed, epoch, np.arange(count) + round_ * count, 1, purpose=purpose)[:, 0]
    return np.argsort(key_N, kind="stable")


def _occurrence(class_T: IndexArray) -> IndexArray:
    """How often each entry's value stood before it."""
    order_T = np.argsort(class_T, kind="stable")
    sorted_T = class_T[order_T]
    first_T = np.concatenate([[True], sorted_T[1:] != sorted_T[:-1]])
    run_start_T = np.maximum.accumulate(np.where(first_T, np.arange(len(class_T)), 0))
    occurrence_T = np.empty(len(class_T), np.int64)
    occurrence_T[order_T] = np.arange(len(class_T)) - run_start_T
    return occurrence_T
