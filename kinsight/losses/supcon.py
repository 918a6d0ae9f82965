"""Supervised contrastive loss."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from kinsight.losses.block import Block, Part
from kinsight.losses.numerics import nonzero
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.losses.sums import log_sum_exp
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class SupCon(PairLoss):
    """Images of one class attract each other against all others of the batch.

    Per anchor i: mean over its positives p of -log(e^(s_ip/T) / sum_{a != i} e^(s_ia/T)), in nats; the mean over the
    anchors that have a positive. Khosla et al. 2020, eq. 2 (the sum outside the logarithm). s: cosine.
    """

    temperature: float = 0.1
    weighs_positives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_settings(self, specs.SupCon)

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        total_A = log_sum_exp(block.dot_AB / self.temperature, block.positive_AB | block.negative_AB)
        near_A = (block.dot_AB.gather(1, block.slots.column_AK) * block.slot_weights).sum(1)
        near_A = near_A / nonzero(block.slot_weights.sum(1)) / self.temperature
        counted_A = block.has_positive_A
        return (Part(torch.where(counted_A, total_A - near_A, 0), counted_A),)
