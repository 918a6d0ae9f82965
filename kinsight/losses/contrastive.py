"""Contrastive loss."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kinsight.losses.distances import Distance, distances
from kinsight.losses.pairs import Block, PairLoss, Part


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

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        distance_AB = distances(block, self.distance)
        column_AK, filled_AK = block.slots
        near_AK = F.relu(distance_AB.gather(1, column_AK) - self.positive_margin) * filled_AK
        far_AB = F.relu(self.margin - distance_AB) * block.negative_AB
        return _active(near_AK), _active(far_AB)


def _active(loss_AB: Tensor) -> Part:
    return Part(loss_AB.sum(1), (loss_AB.detach() > 0).sum(1))
