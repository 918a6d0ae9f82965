"""A smooth stand-in for Recall@k."""

from dataclasses import dataclass

import torch

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.ranks import smooth_ranks
from kinsight.losses.settings import require_settings
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class RecallAtK(PairLoss):
    """1 - Recall@k with smooth ranks and a smooth "within the first k", averaged over several k.

    Per anchor and k: sum over its P positives of sigmoid((k - rank) / k_temperature) / min(k, P), with ranks made
    smooth by `temperature`; the mean over the anchors that have a positive. Patel, Tolias, Matas 2022, eq. 4 and 5.
    """

    ks: tuple[int, ...] = (1, 2, 4, 8, 16)
    temperature: float = 0.01
    k_temperature: float = 1.0

    def __post_init__(self) -> None:
        require_settings(self, specs.RecallAtK)

    def width(self, most_positives: int) -> int:
        """See `PairLoss.width`."""
        return max(most_positives, 1)

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        filled_AK = block.slots.filled_AK
        rank_AK = smooth_ranks(block, self.temperature).among_all_AK
        number_A = filled_AK.sum(1).clamp_min(1)
        recall_A = torch.zeros_like(block.dot_AB[:, 0])
        for k in self.ks:
            within_AK = torch.sigmoid((k - rank_AK) / self.k_temperature) * filled_AK
            recall_A = recall_A + within_AK.sum(1) / number_A.clamp_max(k)
        counted_A = block.has_positive_A
        return (Part(torch.where(counted_A, 1 - recall_A / len(self.ks), 0), counted_A),)
