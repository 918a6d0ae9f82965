"""Triplets for losses that take a batch as such. An image of several labels belongs to each of its classes."""

import numpy as np
import numpy.typing as npt

from kinsight.data.members import IndexArray, Members
from kinsight.data.random import Purpose, words
from kinsight.data.records import Records
from kinsight.errors import DataError

_REDRAWN = (8, 256)  # times a negative is drawn again, at least and at most, before all that its anchor has are listed
_LISTED = 2**20  # images gone through to list them all, for which no more than the least number of draws is worth it


class TripletBatches:
    """Triplets of two random classes, one after the other: anchor, positive (another image of its class), negative.

    Anchors' classes have two images or more; a negative's may have one. Classes and images are drawn independently, so
    that an image may be in several triplets of a batch. A negative shares no label with its anchor: where it would, it
    is drawn again, and an image with which all others share a label is no anchor.
    """

    def __init__(self, records: Records, *, batch_size: int, seed: int) -> None:
        assert batch_size % 3 == 0, batch_size
        self._members, self._seed = Members.of(records, least=1), seed
        self._paired = np.flatnonzero(self._members.count_U >= 2)
        if len(self._paired) == 0 or len(self._members) < 2:
            raise DataError(
                "data.too-few-classes",
                f"{len(self._members)} classes, {len(self._paired)} of them with two or more images: a triplet needs "
                "two classes, one with two images",
                field="sampler.kind",
                remedy="give more classes a second image, or set sampler.kind=shuffle",
            )
        if self._members.shared:
            _require_negatives(self._members, self._paired)
        self._triplets = batch_size // 3
        self.num_batches = -(-len(records) // batch_size)

    def epoch(self, epoch: int) -> list[IndexArray]:
        draw = _Draw(self._members, self._paired, self._seed, epoch, self.num_batches * self._triplets)
        return list(draw.triplets().reshape(self.num_batches, -1))


class _Draw:
    """The triplets of one epoch. Every round of drawing has random words of its own."""

    def __init__(self, members: Members, paired: IndexArray, seed: int, epoch: int, number: int) -> None:
        self._members, self._paired, self._seed, self._epoch, self._number = members, paired, seed, epoch, number
        self._record_M = members.shuffled(seed, epoch)
        self._round = 0

    def triplets(self) -> IndexArray:
        """(T, 3) record numbers."""
        record_T3 = self._independent(np.arange(self._number))
        if not self._members.shared:
            return record_T3
        pending_P = self._alike(record_T3, np.arange(self._number))
        while len(pending_P):  # ends, since `_require_negatives` found an anchor that has a negative
            for number in range(_REDRAWN[1]):
                if number >= _REDRAWN[0] and len(pending_P) * len(self._record_M) <= _LISTED:
                    break
                record_T3[pending_P, 2] = self._any(pending_P)
                pending_P = self._alike(record_T3, pending_P)
            pending_P = self._chosen(record_T3, pending_P)
            record_T3[pending_P] = self._independent(pending_P)
            pending_P = self._alike(record_T3, pending_P)
        return record_T3

    def _words(self, place_P: IndexArray, draws: int) -> npt.NDArray[np.uint64]:
        key_P = place_P + self._round * self._number
        self._round += 1
        return words(self._seed, self._epoch, key_P, draws, purpose=Purpose.CLASSES)

    def _independent(self, place_P: IndexArray) -> IndexArray:
        """(P, 3): two images of a class, one of another."""
        members, word_P5 = self._members, self._words(place_P, 5)
        own_P = self._paired[_below(word_P5[:, 0], len(self._paired))]
        other_P = _below(word_P5[:, 1], len(members) - 1)
        other_P += other_P >= own_P  # any class but its own
        count_P, start_P = members.count_U[own_P], members.start_U[own_P]
        anchor_P = _below(word_P5[:, 2], count_P)
        positive_P = _below(word_P5[:, 3], count_P - 1)
        positive_P += positive_P >= anchor_P
        negative_P = members.start_U[other_P] + _below(word_P5[:, 4], members.count_U[other_P])
        return self._record_M[np.stack([start_P + anchor_P, start_P + positive_P, negative_P], 1)]

    def _any(self, place_P: IndexArray) -> IndexArray:
        """(P,): an image of any class."""
        members, word_P2 = self._members, self._words(place_P, 2)
        class_P = _below(word_P2[:, 0], len(members))
        return self._record_M[members.start_U[class_P] + _below(word_P2[:, 1], members.count_U[class_P])]

    def _alike(self, record_T3: IndexArray, place_P: IndexArray) -> IndexArray:
        """Those of these places where anchor and negative share a class."""
        return place_P[self._members.alike(record_T3[place_P, 0], record_T3[place_P, 2])]

    def _chosen(self, record_T3: IndexArray, place_P: IndexArray) -> IndexArray:
        """Give anchors with few negatives one of these, evenly; the places left have anchors without any."""
        word_P = self._words(place_P, 1)[:, 0]
        barren_P = np.zeros(len(place_P), np.bool_)
        for anchor in np.unique(record_T3[place_P, 0]):
            (here_K,) = (record_T3[place_P, 0] == anchor).nonzero()
            unlike = self._members.unlike(int(anchor))
            if len(unlike):
                record_T3[place_P[here_K], 2] = unlike[_below(word_P[here_K], len(unlike))]
            else:
                barren_P[here_K] = True
        return place_P[barren_P]


def _require_negatives(members: Members, paired: IndexArray) -> None:
    """Raises DataError unless some image of a paired class shares no class with some other image.

    Images of few and small classes are asked first: the first one usually answers.
    """
    reach_N = np.bincount(members.record_M, weights=members.count_U[members.slot_M])  # at least all that are like it
    labelled = np.count_nonzero(reach_N)
    paired_U = np.zeros(len(members), np.bool_)
    paired_U[paired] = True
    (anchor_A,) = np.bincount(members.record_M, weights=paired_U[members.slot_M]).nonzero()
    if members.count_U.max() == labelled:  # a class of all images leaves no negative
        anchor_A = anchor_A[:0]
    anchor_A = anchor_A[np.argsort(reach_N[anchor_A], kind="stable")]
    if not any(reach_N[anchor] < labelled or len(members.unlike(int(anchor))) for anchor in anchor_A):
        raise DataError(
            "data.no-negatives",
            f"all {labelled} labelled images share labels with each other, as far as they have a positive: a triplet "
            "needs an image that shares none with its anchor",
            field="sampler.kind",
            remedy="leave out labels that nearly all images have, or set sampler.kind=per-class",
        )


def _below(word_T: np.ndarray, bound: IndexArray | int) -> IndexArray:
    """Numbers from 0 to below the bound; uneven by less than one in 2**40 for bounds that fit in memory."""
    return (word_T % np.asarray(bound, np.uint64)).astype(np.int64)
