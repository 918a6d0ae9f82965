"""Samplers that go by classes. An image of several labels belongs to each of its classes.

Classes come round one after the other in random order, so each is seen equally often; an epoch shows about as many
images as there are. A class's images come round in random order too. Where an image comes up twice in a batch, for two
of its classes, another image of the class takes the second place: see `kinsight.data.distinct`. Only where the classes
drawn have too few images together for the batch, some are repeated, as few as can be.
"""

import warnings

import numpy as np

from kinsight.data.distinct import draw_batches
from kinsight.data.members import IndexArray, Members
from kinsight.data.random import Purpose, shuffled, words
from kinsight.data.records import Records
from kinsight.errors import DataError


class ClassBatches:
    """Batches of `batch_size / samples_per_class` different classes with equally many images each.

    A class with fewer than `samples_per_class` images gives all it has and repeats some. A class with a single image
    has no pair and is left out.
    """

    def __init__(self, records: Records, *, batch_size: int, samples_per_class: int, seed: int) -> None:
        assert batch_size % samples_per_class == 0, (batch_size, samples_per_class)
        self._samples, self._seed = samples_per_class, seed
        self._classes_per_batch = batch_size // samples_per_class
        self._members = Members.of(records, least=2)
        _require_classes(self._members, self._classes_per_batch, batch_size, samples_per_class)
        self.num_batches = -(-len(self._members.record_M) // batch_size)

    def epoch(self, epoch: int) -> list[IndexArray]:
        slot_T = self._order(epoch)
        sizes = {"batches": self.num_batches, "seed": self._seed, "epoch": epoch}
        return draw_batches(self._members, slot_T, self._samples, **sizes)

    def _order(self, epoch: int) -> IndexArray:
        """Classes of all places of the epoch: permutations end to end, without a class twice in one batch."""
        needed, per_batch, number = self.num_batches * self._classes_per_batch, self._classes_per_batch, 0
        parts: list[IndexArray] = []
        filled = 0
        while filled < needed:
            order_U = shuffled(len(self._members), self._seed, epoch, purpose=Purpose.CLASSES, round_=number)
            if begun := filled % per_batch:  # a batch that the previous permutation has begun
                met = np.isin(order_U, parts[-1][-begun:])
                fresh = order_U[~met][: per_batch - begun]  # completes that batch
                order_U = np.concatenate([fresh, order_U[~np.isin(order_U, fresh)]])
            parts.append(order_U)
            filled += len(order_U)
            number += 1
        return np.concatenate(parts)[:needed]


class BalancedBatches:
    """Every place of a batch goes to the next class of random permutations: each equally often, whatever its size."""

    def __init__(self, records: Records, *, batch_size: int, seed: int) -> None:
        self._members, self._batch_size, self._seed = Members.of(records, least=1), batch_size, seed
        self.num_batches = -(-len(records) // batch_size)

    def epoch(self, epoch: int) -> list[IndexArray]:
        needed, classes = self.num_batches * self._batch_size, len(self._members)
        rounds = range(-(-needed // classes))
        orders = [shuffled(classes, self._seed, epoch, purpose=Purpose.CLASSES, round_=number) for number in rounds]
        sizes = {"batches": self.num_batches, "seed": self._seed, "epoch": epoch}
        return draw_batches(self._members, np.concatenate(orders)[:needed], 1, **sizes)


class HierarchicalBatches:
    """Batches of classes from `super_classes` super-classes, equally many of each.

    Super-classes come round in random order, and the classes of each. One with fewer classes than its share gives all
    it has, and further super-classes fill the batch: no batch is short, and none has a class twice.
    """

    def __init__(
        self,
        records: Records,
        *,
        batch_size: int,
        samples_per_class: int,
        super_classes: int,
        column: str,
        seed: int,
    ) -> None:
        assert batch_size % samples_per_class == 0, (batch_size, samples_per_class)
        self._samples, self._seed = samples_per_class, seed
        self._classes_per_batch = batch_size // samples_per_class
        self._share = -(-self._classes_per_batch // super_classes)
        self._members = Members.of(records, least=2)
        _require_classes(self._members, self._classes_per_batch, batch_size, samples_per_class)
        group_U = self._members.group_U(records.numbers(column, field="sampler.column"), records, column)
        self._class_G = [np.flatnonzero(group_U == group) for group in np.unique(group_U)]
        self.num_batches = -(-len(self._members.record_M) // batch_size)

    def epoch(self, epoch: int) -> list[IndexArray]:
        turns = _Turns(self._class_G, self._seed, epoch)
        slot_T = np.concatenate([self._batch(turns) for _ in range(self.num_batches)])
        sizes = {"batches": self.num_batches, "seed": self._seed, "epoch": epoch}
        return draw_batches(self._members, slot_T, self._samples, **sizes)

    def _batch(self, turns: "_Turns") -> IndexArray:
        chosen: list[int] = []
        met: set[int] = set()
        while len(chosen) < self._classes_per_batch:
            if len(met) == len(self._class_G):  # shares were too small, since some super-classes are: go round again
                met.clear()
            group = turns.next_group(met)
            met.add(group)
            wanted = min(self._share, self._classes_per_batch - len(chosen))
            chosen += turns.next_classes(group, wanted, set(chosen))
        return np.array(chosen, np.int64)


class _Turns:
    """Super-classes in turn, and the classes of each in turn, in orders drawn anew for every round."""

    def __init__(self, class_G: list[IndexArray], seed: int, epoch: int) -> None:
        self._class_G, self._seed, self._epoch = class_G, seed, epoch
        self._groups: list[int] = []
        self._round = 0
        self._queue_G: list[list[int]] = [[] for _ in class_G]
        self._round_G = [0] * len(class_G)

    def next_group(self, met: set[int]) -> int:
        """The next super-class that is not among those met, which are not all."""
        while True:
            for group in self._groups:
                if group not in met:
                    self._groups.remove(group)
                    return group
            order_G = shuffled(
                len(self._class_G), self._seed, self._epoch, purpose=Purpose.SUPER_CLASSES, round_=self._round
            )
            self._groups += order_G.tolist()
            self._round += 1

    def next_classes(self, group: int, number: int, taken: set[int]) -> list[int]:
        """Up to `number` classes of a super-class, none of those taken; fewer where it has no more."""
        free = len(self._class_G[group]) - len(taken.intersection(self._class_G[group].tolist()))
        chosen: list[int] = []
        while len(chosen) < min(number, free):
            if not self._queue_G[group]:
                self._refill(group)
            slot = next(slot for slot in self._queue_G[group] + [-1] if slot not in taken and slot not in chosen)
            if slot < 0:
                self._refill(group)
                continue
            self._queue_G[group].remove(slot)
            chosen.append(slot)
        return chosen

    def _refill(self, group: int) -> None:
        class_U = self._class_G[group]
        key_U = words(self._seed, self._epoch, class_U, 1 + self._round_G[group], purpose=Purpose.CLASSES)[:, -1]
        self._queue_G[group] += class_U[np.argsort(key_U, kind="stable")].tolist()
        self._round_G[group] += 1


def _require_classes(members: Members, needed: int, batch_size: int, samples: int) -> None:
    usable = len(members)
    if usable < max(2, needed):
        single = f" ({members.num_single} more have a single image, which has no pair)" if members.num_single else ""
        raise DataError(
            "data.too-few-classes",
            f"{usable} {'class has' if usable == 1 else 'classes have'} two or more images{single}; "
            f"a batch of {batch_size} with {samples} images per class needs {max(2, needed)}",
            field="sampler.samples_per_class",
            remedy="give more classes a second image, or set sampler.kind=shuffle"
            if usable < 2
            else f"set batch.size to at most {usable * samples}, or add images to more classes",
        )
    if members.num_single:
        warnings.warn(
            f"{members.num_single} of {usable + members.num_single} classes have a single image, which has no pair: "
            "they are left out of training",
            stacklevel=5,
        )
