"""Which images meet in a batch. A sampler is a pure function of (labels, batch size, seed, epoch).

Batches are global: rank r of `world` takes `numpy.array_split(batch, world)[r]`, so ranks change nothing.
"""

from typing import Protocol, assert_never

import numpy as np

from kinsight.data.class_samplers import BalancedBatches, ClassBatches, HierarchicalBatches
from kinsight.data.members import IndexArray
from kinsight.data.random import shuffled
from kinsight.data.records import Records
from kinsight.data.triplet_sampler import TripletBatches
from kinsight.errors import DataError
from kinsight.specs import samplers as specs


class Sampler(Protocol):
    """What the training loop asks for batches."""

    @property
    def num_batches(self) -> int:
        """Batches in every epoch."""
        ...

    def epoch(self, epoch: int) -> list[IndexArray]:
        """The epoch's global batches of record numbers, int64."""
        ...


def build_sampler(spec: specs.Sampler, records: Records, *, batch_size: int, seed: int) -> Sampler:
    """The sampler a spec describes, over these records.

    Raises DataError where the data cannot fill a batch.
    """
    if batch_size > len(records):
        raise DataError(
            "data.batch-too-large",
            f"batch.size={batch_size} is more than the {len(records)} images there are",
            field="batch.size",
            remedy=f"set batch.size to at most {len(records)}",
        )
    sizes = {"batch_size": batch_size, "seed": seed}
    match spec:
        case specs.ShuffleSampler():
            return ShuffledBatches(len(records), reshuffle=spec.reshuffle, **sizes)
        case specs.PerClassSampler():
            return ClassBatches(records, samples_per_class=spec.samples_per_class, **sizes)
        case specs.ClassBalancedSampler():
            return BalancedBatches(records, **sizes)
        case specs.HierarchicalSampler():
            return HierarchicalBatches(
                records,
                samples_per_class=spec.samples_per_class,
                super_classes=spec.super_classes,
                column=spec.column,
                **sizes,
            )
        case specs.TripletSampler():
            return TripletBatches(records, **sizes)
    assert_never(spec)


class ShuffledBatches:
    """Every image once an epoch, in random order; the same one in every epoch unless `reshuffle`.

    All batches are full but the last. Where that one would be less than half full, the last two share their images,
    since statistics over a handful of images are poor ones.
    """

    def __init__(self, num_images: int, *, batch_size: int, seed: int, reshuffle: bool = True) -> None:
        self._num_images, self._batch_size, self._seed, self._reshuffle = num_images, batch_size, seed, reshuffle

    @property
    def num_batches(self) -> int:
        return -(-self._num_images // self._batch_size)

    def epoch(self, epoch: int) -> list[IndexArray]:
        order_N = shuffled(self._num_images, self._seed, epoch if self._reshuffle else 0)
        cuts = list(range(self._batch_size, self._num_images, self._batch_size))
        tail = self._num_images - (cuts[-1] if cuts else 0)
        if cuts and 2 * tail < self._batch_size:
            cuts[-1] -= (self._batch_size - tail) // 2
        return np.split(order_N, cuts)
