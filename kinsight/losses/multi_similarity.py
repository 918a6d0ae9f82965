"""Multi-similarity loss."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.losses.sums import log_sum_exp, log_sum_exp_slots
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class MultiSimilarity(PairLoss):
    """Soft thresholds on the cosines of positives and of negatives, the worst of each weighing most.

    Per anchor: log(1 + sum_p e^(-alpha (s_p - base))) / alpha + log(1 + sum_n e^(beta (s_n - base))) / beta; the mean
    over all anchors, also those without a pair. Wang et al. 2019, eq. 15 (base is their lambda).
    """

    alpha: float = 2.0
    beta: float = 50.0
    base: float = 0.5

    def __post_init__(self) -> None:
        require_settings(self, specs.MultiSimilarity)

    weighs_positives: ClassVar[bool] = True

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        near_AK = -self.alpha * (block.dot_AB.gather(1, block.slots.column_AK) - self.base)
        if block.degree_AB is not None:
            near_AK = near_AK + block.slot_weights.clamp_min(torch.finfo(near_AK.dtype).tiny).log()
        near_A = log_sum_exp_slots(near_AK, block)
        far_A = log_sum_exp(self.beta * (block.dot_AB - self.base), block.negative_AB)
        total_A: Tensor = F.softplus(near_A) / self.alpha + F.softplus(far_A) / self.beta
        return (Part(total_A, total_A.new_ones(total_A.shape)),)
