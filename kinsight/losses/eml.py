"""The ensemble loss of PaddlePaddle's metric learning."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.losses.sums import log_sum_exp, log_sum_exp_slots
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class Eml(PairLoss):
    """All positives nearer than all negatives, on rows that keep their lengths.

    Per anchor: log(1 + beta * mean_p e^(d_p) * mean_n e^(-d_n)) / log(1 + beta), d the squared Euclidean distance of
    the rows as they are; the mean over the anchors that have positives and negatives. arXiv 1212.6094 as PaddlePaddle
    computes it; its linear branch for distances far apart is what the softplus here turns into.
    """

    beta: float = 1e5
    unit: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_settings(self, specs.Eml)

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        column_AK, filled_AK = block.slots
        squared_AB = block.squared()
        near_A = log_sum_exp_slots(squared_AB.gather(1, column_AK), block)
        far_A = log_sum_exp(-squared_AB, block.negative_AB)
        pairs_A = filled_AK.sum(1).clamp_min(1) * block.negative_AB.sum(1).clamp_min(1)
        counted_A = block.has_positive_A & block.has_negative_A
        loss_A = F.softplus(near_A + far_A - pairs_A.to(near_A.dtype).log() + math.log(self.beta))
        return (Part(torch.where(counted_A, loss_A / math.log1p(self.beta), 0), counted_A),)
