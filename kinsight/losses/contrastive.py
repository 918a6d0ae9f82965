"""Contrastive loss."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kinsight.losses.block import Block, Part
from kinsight.losses.distances import Distance, distances
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class Contrastive(PairLoss):
    """Pulls positives below one distance and pushes negatives beyond another.

    Mean of relu(d_p - positive_margin) over the positive pairs where it is not 0, plus mean of relu(margin - d_n) over
    the negative pairs where it is not 0. Hadsell, Chopra, LeCun 2006, with distances instead of their squares and
    means over the active pairs (as the Reality Check compares it).

    positive_margin, margin: distances of unit rows, of the chosen kind.
    """

    positive_margin: float = 0.0
    margin: float = 1.0
    distance: Distance = "euclidean"
    part_names: ClassVar[tuple[str, ...]] = ("positive_pairs", "negative_pairs")

    def __post_init__(self) -> None:
        require_settings(self, specs.Contrastive)

    weighs_positives: ClassVar[bool] = True

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        distance_AB = distances(block, self.distance)
        column_AK, filled_AK = block.slots
        near_AK = distance_AB.gather(1, column_AK)
        pulled_AK = (near_AK.detach() > self.positive_margin) & filled_AK
        pushed_AB = (distance_AB.detach() < self.margin) & block.negative_AB
        near = _sums(near_AK, pulled_AK * block.slot_weights)
        far = _sums(distance_AB, pushed_AB.to(distance_AB.dtype))
        return (
            Part(near.total_A - self.positive_margin * near.count_A, near.count_A),
            Part(self.margin * far.count_A - far.total_A, far.count_A),
        )


def _sums(distance_AB: Tensor, weight_AB: Tensor) -> Part:
    """Sum and weight of the counted distances: what a hinge amounts to where it is active, in one pass."""
    return Part(torch.linalg.vecdot(distance_AB, weight_AB), weight_AB.sum(1))
