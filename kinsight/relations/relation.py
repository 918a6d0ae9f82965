"""The interface between labels and whoever compares pairs, and its simplest form: one label per image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kinsight.errors import DataError


class Masks(NamedTuple):
    """Which pairs are alike and which are not; a pair may be neither. Both bool (A, B)."""

    positive_AB: Tensor
    negative_AB: Tensor


@dataclass(frozen=True)
class Level:
    """One way to cut similarities into alike and not: at least `positive_from`, below `negative_below`.

    weight: of the loss at this level in the sum over the levels.
    """

    positive_from: float
    negative_below: float
    weight: float = 1.0


class Relation(ABC):
    """Reads targets: int64 or floating tensors with one row per image.

    A relation with several degrees of likeness has several levels; a loss over pairs is computed at each of them and
    summed with their weights. weighted: positives weigh by their likeness, in losses that know weights of pairs.
    """

    weighted: bool = False

    @property
    @abstractmethod
    def levels(self) -> tuple[Level, ...]:
        """At least one."""

    @abstractmethod
    def similarity(self, target_A: Tensor, target_B: Tensor) -> Tensor:
        """Likeness of the images of two targets: float32 (A, B), from 0 (nothing shared) to 1 (the same)."""

    def class_ids(self, target: Tensor) -> Tensor:
        """What losses over classes read: int64 class ids (B,), or (B, L) padded with -1 for several per image."""
        return target

    @abstractmethod
    def check(self, target: Tensor, num_rows: int) -> None:
        """Raises DataError unless this can be read as `num_rows` images."""

    def masks(self, target_A: Tensor, target_B: Tensor) -> list[Masks]:
        """The masks of each level."""
        similarity_AB = self.similarity(target_A, target_B)
        return [
            Masks(similarity_AB >= level.positive_from, similarity_AB < level.negative_below) for level in self.levels
        ]

    def degrees(self, target_A: Tensor, target_B: Tensor) -> Tensor | None:
        """What a positive pair weighs, (A, B), above 0 up to 1; None: all the same."""
        return self.similarity(target_A, target_B) if self.weighted else None


@dataclass(frozen=True)
class SameLabel(Relation):
    """One label per image, int64 (B,); equal labels are alike, -1 (unknown) is neither alike nor different."""

    @property
    def levels(self) -> tuple[Level, ...]:
        return (Level(1.0, 1.0),)

    def similarity(self, target_A: Tensor, target_B: Tensor) -> Tensor:
        """1 for equal known labels, else 0."""
        return self.masks(target_A, target_B)[0].positive_AB.to(torch.float32)

    def masks(self, target_A: Tensor, target_B: Tensor) -> list[Masks]:
        """See `Relation.masks`."""
        return [same_ids(target_A, target_B)]

    def check(self, target: Tensor, num_rows: int) -> None:
        """See `Relation.check`."""
        require_ids(target, (num_rows,), "pass one class id per embedding")


def same_ids(id_A: Tensor, id_B: Tensor) -> Masks:
    """Equal and unequal ids; -1, unknown, is neither."""
    same_AB = id_A[:, None] == id_B
    unknown_A, unknown_B = id_A < 0, id_B < 0
    if not (unknown_A.any() or unknown_B.any()):
        return Masks(same_AB, ~same_AB)
    known_AB = ~(unknown_A[:, None] | unknown_B)
    return Masks(same_AB & known_AB, ~same_AB & known_AB)


def require_ids(target: Tensor, shape: tuple[int | None, ...], remedy: str) -> None:
    """Raises DataError unless `target` is int64 and of this shape (None: any length)."""
    fits = target.dim() == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, target.shape, strict=True)
    )
    if target.dtype != torch.int64 or not fits:
        wanted = ", ".join("L" if length is None else str(length) for length in shape)
        wanted += "," if len(shape) == 1 else ""
        raise DataError(
            "loss.labels",
            f"labels of dtype {target.dtype} and shape {tuple(target.shape)}: expected int64 and ({wanted})",
            remedy=remedy,
        )
