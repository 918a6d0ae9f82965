"""Losses of a batch as a whole, which are no sums over anchors."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.losses.numerics import unit_rows, wide_dtype, without_autocast
from kinsight.losses.settings import require_settings
from kinsight.relations import Relation, SameLabel
from kinsight.specs import losses as specs

_SAME_LABEL = SameLabel()
_ROWS = 512


class BatchLoss(Protocol):
    """A scalar from all rows of a batch, in float32 at least; 0 with zero gradients where nothing counts."""

    def __call__(self, emb_BD: Tensor, target: Tensor, *, relation: Relation = ...) -> Tensor: ...


@dataclass(frozen=True)
class Quadruplet:
    """Margin sample mining, PaddlePaddle's "quadruplet": the farthest positive pair against the nearest negative pair.

    relu(max_p d - min_n d + margin), one value per batch, d the squared distance of unit rows; with several levels of
    likeness the weighted sum. arXiv 1710.00478.
    """

    margin: float = 0.1

    def __post_init__(self) -> None:
        require_settings(self, specs.Quadruplet)

    def __call__(self, emb_BD: Tensor, target: Tensor, *, relation: Relation = _SAME_LABEL) -> Tensor:
        """emb_BD: any floating dtype and lengths. target: what the relation reads. Memory: blocks of pairs.

        Raises SpecError for a weighted relation: the extremes of a batch have no weights.
        """
        if relation.weighted:
            what = "Quadruplet has no weights of pairs"
            raise SpecError("loss.weighted-relation", what, field="relation.weighted", remedy="leave it off")
        relation.check(target, len(emb_BD))
        with without_autocast(emb_BD):
            unit_BD = unit_rows(emb_BD.to(wide_dtype(emb_BD)))
            total = unit_BD.sum() * 0
            for level, (far, near) in zip(relation.levels, _extremes(unit_BD.detach(), target, relation), strict=True):
                if far is not None and near is not None:
                    gap = _squared(unit_BD, far) - _squared(unit_BD, near)
                    total = total + level.weight * F.relu(gap + self.margin)
            return total


@dataclass(frozen=True)
class NPairs:
    """N-pairs on rows that keep their lengths: each class's first row finds its second among those of all classes.

    Cross-entropy of the anchors' products with all second rows, plus reg_weight / 2 times the mean squared length of
    the rows. Sohn 2016, eq. 7, as PaddlePaddle computes it: exactly two rows of a class count, the first two here.
    """

    reg_weight: float = 0.01

    def __post_init__(self) -> None:
        require_settings(self, specs.NPairs)

    def __call__(self, emb_BD: Tensor, target: Tensor, *, relation: Relation = _SAME_LABEL) -> Tensor:
        """emb_BD: any floating dtype. target: int64 class ids (B,); classes are what n-pairs are made of."""
        if not isinstance(relation, SameLabel):
            raise DataError(
                "loss.relation",
                f"{type(relation).__name__}: n-pairs take two images of each class, and need one class per image",
                remedy="choose another loss, such as info-nce, which reads every relation",
            )
        relation.check(target, len(emb_BD))
        first_N, second_N = _pairs_of_classes(target)
        with without_autocast(emb_BD):
            rows_BD = emb_BD.to(wide_dtype(emb_BD))
            if len(first_N) == 0:
                return rows_BD.sum() * 0
            anchor_ND, positive_ND = rows_BD[first_N], rows_BD[second_N]
            own_N = torch.arange(len(first_N), device=rows_BD.device)
            squared = (anchor_ND.square().sum(1) + positive_ND.square().sum(1)).mean() / 2
            return F.cross_entropy(anchor_ND @ positive_ND.T, own_N) + self.reg_weight / 2 * squared


@dataclass(frozen=True)
class VICReg:
    """A regulariser against collapse: every dimension varies, and no two vary together. It reads no labels.

    variance_weight * mean_d relu(1 - sqrt(var_d + 1e-4)) + covariance_weight * sum_{d != e} cov_de^2 / D, on rows
    that keep their lengths. Bardes, Ponce, LeCun 2022, eq. 1 to 4, with unbiased variances.
    """

    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    uses_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_settings(self, specs.VICReg)

    def __call__(self, emb_BD: Tensor, target: Tensor | None = None, *, relation: Relation = _SAME_LABEL) -> Tensor:
        """emb_BD: any floating dtype, two rows or more (with fewer the loss is 0). Memory: D x D."""
        with without_autocast(emb_BD):
            rows_BD = emb_BD.to(wide_dtype(emb_BD))
            number, length = rows_BD.shape
            if number < 2:
                return rows_BD.sum() * 0
            centred_BD = rows_BD - rows_BD.mean(0)
            covariance_DD = centred_BD.T @ centred_BD / (number - 1)
            variance_D = covariance_DD.diagonal()
            spread = F.relu(1 - (variance_D + 1e-4).sqrt()).mean()
            together = (covariance_DD.square().sum() - variance_D.square().sum()) / length
            return self.variance_weight * spread + self.covariance_weight * together


def _squared(unit_BD: Tensor, pair: tuple[int, int]) -> Tensor:
    return (unit_BD[pair[0]] - unit_BD[pair[1]]).square().sum()


def _extremes(
    unit_BD: Tensor, target: Tensor, relation: Relation
) -> list[tuple[tuple[int, int] | None, tuple[int, int] | None]]:
    """At each level the farthest positive and the nearest negative pair; None where there is none."""
    number = len(unit_BD)
    found: list[list[tuple[float, int, int] | None]] = [[None, None] for _ in relation.levels]
    for start in range(0, number, _ROWS):
        stop = min(start + _ROWS, number)
        dot_AB = unit_BD[start:stop] @ unit_BD.T
        for best, masks in zip(found, relation.masks(target[start:stop], target), strict=True):
            own = torch.arange(start, stop, device=dot_AB.device)
            masks.positive_AB[own - start, own] = False
            masks.negative_AB[own - start, own] = False
            for side, (mask_AB, sign) in enumerate(((masks.positive_AB, -1.0), (masks.negative_AB, 1.0))):
                value, place = (sign * dot_AB).masked_fill(~mask_AB, -torch.inf).flatten().max(0)
                before = best[side]
                if value > -torch.inf and (before is None or value.item() > before[0]):
                    best[side] = (value.item(), start + int(place) // number, int(place) % number)
    pairs = [[None if best is None else (best[1], best[2]) for best in level] for level in found]
    return [(level[0], level[1]) for level in pairs]


def _pairs_of_classes(label_B: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second row of every known class that has two, in the order of the first ones."""
    order_B = label_B.argsort(stable=True)
    sorted_B = label_B[order_B]
    begins_B = torch.ones_like(sorted_B, dtype=torch.bool)
    begins_B[1:] = sorted_B[1:] != sorted_B[:-1]
    (place_N,) = begins_B.nonzero(as_tuple=True)
    place_N = place_N[place_N + 1 < len(sorted_B)]
    place_N = place_N[(sorted_B[place_N + 1] == sorted_B[place_N]) & (sorted_B[place_N] >= 0)]
    first_N, second_N = order_B[place_N], order_B[place_N + 1]
    by_first_N = first_N.argsort()
    return first_N[by_first_N], second_N[by_first_N]
