"""Copies sorted into what they mean: redundant, contradictory, or leaking from one set into the other."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from kinsight.checking.joint import Joint, first_equal
from kinsight.checking.near import NearPairs
from kinsight.checking.reading import Looked

How = Literal["listed", "bytes", "pixels", "near"]


class Copy(NamedTuple):
    """An image and the earlier one it repeats. how: the same address, file, pixels, or look; alike: 0 to 1."""

    image: int
    original: int
    how: How
    alike: float


@dataclass(frozen=True)
class Copies:
    """repeats: the same address again, with the same labels. duplicates: copies with the same labels in one set.
    conflicts: copies with other labels in one set. leaks: training images with a copy among the validation images.
    """

    repeats: list[Copy]
    duplicates: list[Copy]
    conflicts: list[Copy]
    leaks: list[Copy]


@dataclass(frozen=True)
class Sameness:
    """For each image the number of the first one with the same address, file, pixels."""

    address_N: npt.NDArray[np.int64]
    file_N: npt.NDArray[np.int64]
    pixel_N: npt.NDArray[np.int64]

    @classmethod
    def of(cls, joint: Joint, looked: Looked) -> "Sameness":
        """Images that cannot be read are like none but those of the same address."""
        own_N = np.arange(len(joint))
        file_N = np.where(looked.usable_N, first_equal(looked.fact_N["file_hash"]), own_N)
        pixel_N = np.where(looked.usable_N, first_equal(looked.fact_N["pixel_hash"]), own_N)
        # what is unusable has no hash of its own: its address alone says what it repeats
        pixel_N = np.where(looked.usable_N, pixel_N, joint.first_N)
        return cls(joint.first_N, file_N, pixel_N)

    def how(self, a: int, b: int) -> How:
        """In which way two images are the same."""
        if self.address_N[a] == self.address_N[b]:
            return "listed"
        if self.file_N[a] == self.file_N[b]:
            return "bytes"
        return "pixels" if self.pixel_N[a] == self.pixel_N[b] else "near"


def sort_copies(joint: Joint, same: Sameness, near: NearPairs) -> Copies:
    """What all these equalities mean. near: pairs of images that stand for all with their pixels."""
    alike = {(min(a, b), max(a, b)): value for a, b, value in zip(*near.lists(), strict=True)}
    beside: dict[int, list[int]] = defaultdict(list)
    for a, b in alike:
        beside[a].append(b)
        beside[b].append(a)
    involved_N = _involved(same.pixel_N, near)
    found = Copies([], [], [], [])
    firsts = [
        _within(joint, same, involved_N[joint.set_N[involved_N] == part], beside, alike, found) for part in (0, 1)
    ]
    _across(same, involved_N[joint.set_N[involved_N] == 0], firsts[1], beside, alike, found)
    return found


def _involved(pixel_N: npt.NDArray[np.int64], near: NearPairs) -> npt.NDArray[np.int64]:
    """Images, ascending, that share pixels with another or belong to a near pair."""
    marked_N = np.bincount(pixel_N, minlength=len(pixel_N)) > 1
    marked_N[near.a_P] = marked_N[near.b_P] = True
    return np.flatnonzero(marked_N[pixel_N])


Firsts = dict[int, dict[int, int]]
"""Pixel group -> key of the labels -> the first image of a set with both."""


def _within(
    joint: Joint,
    same: Sameness,
    rows: npt.NDArray[np.int64],
    beside: dict[int, list[int]],
    alike: dict[tuple[int, int], float],
    found: Copies,
) -> Firsts:
    """Copies inside one set. An image that repeats a kept one is not kept, so that chains do not run away."""
    kept: Firsts = defaultdict(dict)
    seen: Firsts = defaultdict(dict)
    for i in rows.tolist():
        group, key = int(same.pixel_N[i]), int(joint.key_N[i])
        groups = [group, *sorted(beside.get(group, ()))]
        original = next((kept[g][key] for g in groups if g in kept and key in kept[g]), None)
        original = seen[group].get(key, original)  # the same pixels say more than a likeness
        seen[group].setdefault(key, i)
        if original is not None:
            copy = _copy(same, alike, i, original)
            (found.repeats if copy.how == "listed" else found.duplicates).append(copy)
            continue
        others = [first for g in groups if g in kept for other, first in kept[g].items() if -1 not in (other, key)]
        if others:
            found.conflicts.append(_copy(same, alike, i, others[0]))
        kept[group].setdefault(key, i)
    return seen


def _across(
    same: Sameness,
    rows: npt.NDArray[np.int64],
    validation: Firsts,
    beside: dict[int, list[int]],
    alike: dict[tuple[int, int], float],
    found: Copies,
) -> None:
    for i in rows.tolist():
        group = int(same.pixel_N[i])
        others = [min(validation[g].values()) for g in (group, *sorted(beside.get(group, ()))) if g in validation]
        if others:
            found.leaks.append(max((_copy(same, alike, i, other) for other in others), key=lambda copy: copy.alike))


def _copy(same: Sameness, alike: dict[tuple[int, int], float], image: int, original: int) -> Copy:
    how = same.how(image, original)
    a, b = int(same.pixel_N[image]), int(same.pixel_N[original])
    return Copy(image, original, how, 1.0 if how != "near" else alike[min(a, b), max(a, b)])
