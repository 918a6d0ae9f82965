"""InfoNCE, the N-pair loss over unit rows."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.losses.sums import log_sum_exp
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class InfoNCE(PairLoss):
    """Each positive pair against all negatives of its anchor, and no other positive.

    Mean over the positive pairs of -log(e^(s_p/T) / (e^(s_p/T) + sum_n e^(s_n/T))), in nats. Sohn 2016, eq. 6, and
    van den Oord et al. 2018, eq. 4, for several positives and with cosines.
    """

    temperature: float = 0.07
    part_names: ClassVar[tuple[str, ...]] = ("positive_pairs",)
    weighs_positives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_settings(self, specs.InfoNCE)

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        far_A = log_sum_exp(block.dot_AB / self.temperature, block.negative_AB)
        near_AK = block.dot_AB.gather(1, block.slots.column_AK) / self.temperature
        loss_AK = torch.logaddexp(near_AK, far_A[:, None]) - near_AK
        return (Part((loss_AK * block.slot_weights).sum(1), block.slot_weights.sum(1)),)
