"""Smooth average precision."""

from dataclasses import dataclass

import torch

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.ranks import smooth_ranks
from kinsight.losses.settings import require_settings
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class SmoothAP(PairLoss):
    """1 - average precision with ranks made smooth.

    Per anchor: 1 - mean over its positives of (smooth rank among the positives / smooth rank among all); the mean over
    the anchors that have a positive. Brown et al. 2020, eq. 6. Positives beat each other through the same sigmoid.
    """

    temperature: float = 0.01

    def __post_init__(self) -> None:
        require_settings(self, specs.SmoothAP)

    def width(self, most_positives: int) -> int:
        """See `PairLoss.width`."""
        return max(most_positives, 1)

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        filled_AK = block.slots.filled_AK
        ranks = smooth_ranks(block, self.temperature)
        precision_AK = ranks.among_positives_AK / ranks.among_all_AK * filled_AK
        counted_A = block.has_positive_A
        loss_A = 1 - precision_AK.sum(1) / filled_AK.sum(1).clamp_min(1)
        return (Part(torch.where(counted_A, loss_A, 0), counted_A),)
