"""Relations with more than one label per image, or with degrees of likeness."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.relations.relation import Level, Masks, Relation, require_ids, same_ids


@dataclass(frozen=True)
class SharedLabels(Relation):
    """Several labels per image: int64 (B, L), padded with -1. Likeness is the Jaccard index of the label sets.

    share: pairs whose index is at least this are alike; 0: any shared label makes them so. Pairs that share a label but
    less than `share` are neither alike nor different; pairs that share none are different. An image without any label
    is neither to all. weighted: positives weigh by the index.
    """

    share: float = 0.0
    weighted: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise SpecError("relation.share", f"{self.share}: expected 0 to 1", field="share")

    @property
    def levels(self) -> tuple[Level, ...]:
        return (Level(max(self.share, torch.finfo(torch.float32).tiny), torch.finfo(torch.float32).tiny),)

    def similarity(self, target_A: Tensor, target_B: Tensor) -> Tensor:
        """Shared labels over labels of either."""
        ids = target_A[target_A >= 0].unique()  # what only the others have is shared with nobody
        if not len(ids):
            return torch.zeros(len(target_A), len(target_B), device=target_A.device)
        shared_AB = _held(target_A, ids) @ _held(target_B, ids).T
        either_AB = _number(target_A)[:, None] + _number(target_B) - shared_AB
        return shared_AB / either_AB.clamp_min(1)

    def masks(self, target_A: Tensor, target_B: Tensor) -> list[Masks]:
        """See `Relation.masks`."""
        (masks,) = super().masks(target_A, target_B)
        empty_A, empty_B = (target_A < 0).all(1), (target_B < 0).all(1)
        if empty_A.any() or empty_B.any():
            return [Masks(masks.positive_AB, masks.negative_AB & ~(empty_A[:, None] | empty_B))]
        return [masks]

    def check(self, target: Tensor, num_rows: int) -> None:
        """See `Relation.check`."""
        require_ids(target, (num_rows, None), "pass the class ids of each image in a row, padded with -1")


@dataclass(frozen=True)
class Hierarchy(Relation):
    """A label at every level of a hierarchy, finest first: int64 (B, L); -1 is unknown at that level.

    weights: of the levels' losses, finest first; as many as there are columns. Likeness falls by equal steps from 1
    (same finest label) to 0 (nothing shared). At each level images of equal labels there are alike.
    """

    weights: tuple[float, ...] = (1.0, 0.5)

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or max(self.weights) == 0:
            raise SpecError(
                "relation.weights", f"{self.weights}: expected one weight per level, from 0", field="weights"
            )

    @property
    def levels(self) -> tuple[Level, ...]:
        number = len(self.weights)
        grades = [1 - place / number for place in range(number)]
        return tuple(Level(grade, grade, weight) for grade, weight in zip(grades, self.weights, strict=True))

    def similarity(self, target_A: Tensor, target_B: Tensor) -> Tensor:
        """See `Relation.similarity`."""
        similarity_AB = torch.zeros(len(target_A), len(target_B), device=target_A.device)
        for level, masks in zip(reversed(self.levels), reversed(self.masks(target_A, target_B)), strict=True):
            similarity_AB.masked_fill_(masks.positive_AB, level.positive_from)
        return similarity_AB

    def masks(self, target_A: Tensor, target_B: Tensor) -> list[Masks]:
        """See `Relation.masks`."""
        return [same_ids(target_A[:, place], target_B[:, place]) for place in range(len(self.weights))]

    def class_ids(self, target: Tensor) -> Tensor:
        """The finest labels."""
        return target[:, 0]

    def check(self, target: Tensor, num_rows: int) -> None:
        """See `Relation.check`."""
        levels = len(self.weights)
        require_ids(target, (num_rows, levels), f"pass {levels} class ids per image, the finest first")


@dataclass(frozen=True)
class SoftLabels(Relation):
    """Likeness given as numbers: between classes, by a matrix, or between images, by the cosine of vectors.

    similarity_CC: (C, C), 0 to 1, symmetric; targets are then int64 class ids (B,). Without it targets are floating
    vectors (B, F), such as a text model's embeddings of the captions, and likeness is their cosine, at least 0.
    positive_from, negative_below: pairs at least and less alike than these; those between are neither.
    weighted: positives weigh by their likeness.
    """

    similarity_CC: Tensor | None = None
    positive_from: float = 0.7
    negative_below: float = 0.3
    weighted: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.negative_below <= self.positive_from <= 1:
            raise SpecError(
                "relation.thresholds",
                f"positive_from={self.positive_from}, negative_below={self.negative_below}: "
                "expected 0 < negative_below <= positive_from <= 1",
            )
        matrix = self.similarity_CC
        if matrix is not None and (
            matrix.dim() != 2
            or matrix.shape[0] != matrix.shape[1]
            or not torch.equal(matrix, matrix.T)
            or not bool(((matrix >= 0) & (matrix <= 1)).all())
        ):
            raise SpecError(
                "relation.similarity",
                f"similarities of shape {tuple(matrix.shape)}: expected a symmetric (classes, classes), each 0 to 1",
                field="similarity_CC",
            )

    @property
    def levels(self) -> tuple[Level, ...]:
        return (Level(self.positive_from, self.negative_below),)

    def similarity(self, target_A: Tensor, target_B: Tensor) -> Tensor:
        """See `Relation.similarity`."""
        if self.similarity_CC is not None:
            matrix_CC = self.similarity_CC.to(target_A.device, torch.float32)
            return matrix_CC[target_A[:, None], target_B]
        unit_AF, unit_BF = (
            torch.nn.functional.normalize(target.to(torch.float32), dim=1) for target in (target_A, target_B)
        )
        return (unit_AF @ unit_BF.T).clamp(0, 1)

    def check(self, target: Tensor, num_rows: int) -> None:
        """See `Relation.check`."""
        if self.similarity_CC is not None:
            require_ids(target, (num_rows,), "pass one class id per embedding")
            if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < len(self.similarity_CC):
                raise DataError(
                    "loss.label-range",
                    f"labels {int(target.min())} to {int(target.max())}: expected 0 to {len(self.similarity_CC) - 1}",
                    remedy="give a similarity for every class",
                )
        elif not target.is_floating_point() or target.dim() != 2 or len(target) != num_rows:
            raise DataError(
                "loss.labels",
                f"labels of dtype {target.dtype} and shape {tuple(target.shape)}: expected vectors ({num_rows}, F)",
                remedy="pass a floating vector per embedding, or the similarities of the classes",
            )


def _held(target_AL: Tensor, ids_U: Tensor) -> Tensor:
    """Which of these ids, ascending, each image has: 0 or 1, float32 (A, U)."""
    place_AL = torch.searchsorted(ids_U, target_AL)
    known_AL = ids_U[place_AL.clamp_max(len(ids_U) - 1)] == target_AL
    held_AU = torch.zeros(len(target_AL), len(ids_U) + 1, device=target_AL.device)
    held_AU.scatter_(1, torch.where(known_AL, place_AL, len(ids_U)), 1.0)
    return held_AU[:, :-1]


def _number(target_AL: Tensor) -> Tensor:
    """How many different ids each image has, float32 (A,)."""
    sorted_AL = target_AL.sort(1).values
    new_AL = torch.ones_like(sorted_AL, dtype=torch.bool)
    new_AL[:, 1:] = sorted_AL[:, 1:] != sorted_AL[:, :-1]
    return (new_AL & (sorted_AL >= 0)).sum(1).float()
