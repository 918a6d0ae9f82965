"""Batches without an image twice, where images belong to several of the classes drawn."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kinsight.data.members import IndexArray, Members


def draw_batches(
    members: Members, slot_T: IndexArray, samples: int, *, batches: int, seed: int, epoch: int
) -> list[IndexArray]:
    """Batches of `samples` images for each class called, as `Members.draw` draws them: int64 record numbers.

    A batch with an image in two places gets further images of the classes called, those that come next in turn; it has
    as many different images as its classes allow, and no image twice if these have enough. Where they have not, the
    images that a class called shows are different ones as long as it has so many.
    """
    drawn_BP = members.draw(slot_T, samples, seed, epoch).reshape(batches, -1)
    if not members.shared:
        return list(drawn_BP)
    slot_BP = np.repeat(slot_T, samples).reshape(batches, -1)
    sorted_BP = np.sort(drawn_BP, 1)
    (repeats_R,) = (sorted_BP[:, 1:] == sorted_BP[:, :-1]).any(1).nonzero()
    order_M = members.shuffled(seed, epoch)
    for batch in repeats_R:
        drawn_BP[batch] = _Batch.of(members, order_M, drawn_BP[batch], slot_BP[batch]).spread()
    return list(drawn_BP)


@dataclass
class _Batch:
    """Places, each with a class and an image of it. `place_of`: where an image stands for good, one place each.

    Finding different images is a bipartite matching of places with images, augmented place by place (Kuhn 1955).
    """

    image: list[int]
    slot: list[int]
    images_of: dict[int, IndexArray]
    place_of: dict[int, int]

    @classmethod
    def of(cls, members: Members, order_M: IndexArray, drawn_P: IndexArray, slot_P: IndexArray) -> "_Batch":
        start_U, count_U = members.start_U, members.count_U
        images_of = {int(slot): order_M[start_U[slot] : start_U[slot] + count_U[slot]] for slot in np.unique(slot_P)}
        image, slot = drawn_P.tolist(), slot_P.tolist()
        place_of: dict[int, int] = {}
        for place, record in enumerate(image):
            place_of.setdefault(record, place)
        return cls(image, slot, images_of, place_of)

    def spread(self) -> list[int]:
        """The images of all places, as many different ones as there can be."""
        repeated = [place for place, record in enumerate(self.image) if self.place_of[record] != place]
        left = [place for place in repeated if not self._settle(place)]
        for place in left:
            self._differ(place)
        return self.image

    def _settle(self, place: int) -> bool:
        """Give this place an image that no other has, if need be by a chain of places that change theirs."""
        root = self.slot[place]
        giver = {root: place}  # class: the place of it that would change its image
        before: dict[int, int] = {}
        queue = deque([root])
        while queue:
            slot = queue.popleft()
            for record in self._in_turn(slot, self.image[giver[slot]]):
                holder = self.place_of.get(record)
                if holder is None:
                    self._shift(slot, record, giver, before)
                    return True
                if (other := self.slot[holder]) not in giver:
                    giver[other], before[other] = holder, slot
                    queue.append(other)
        return False

    def _shift(self, slot: int, record: int, giver: dict[int, int], before: dict[int, int]) -> None:
        """The class takes the free image; the one that it gives up goes to the class before it, up to the root."""
        while True:
            place = giver[slot]
            given_up, self.image[place] = self.image[place], record
            self.place_of[record] = place
            if slot not in before:
                return
            slot, record = before[slot], given_up

    def _in_turn(self, slot: int, record: int) -> Iterator[int]:
        """A class's images, beginning behind this one."""
        images_K = self.images_of[slot]
        (found,) = (images_K == record).nonzero()
        first = int(found[0]) + 1
        for start in range(first, first + len(images_K)):
            yield int(images_K[start % len(images_K)])

    def _differ(self, place: int) -> None:
        """A repeated image, but none that its class shows already in this batch, if it has another."""
        slot = self.slot[place]
        shown = {self.image[other] for other, own in enumerate(self.slot) if own == slot and other != place}
        if self.image[place] in shown:
            others = (record for record in self._in_turn(slot, self.image[place]) if record not in shown)
            self.image[place] = next(others, self.image[place])
