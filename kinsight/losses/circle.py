"""Circle loss."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.losses.sums import log_sum_exp, log_sum_exp_slots
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class Circle(PairLoss):
    """Each cosine is weighed by how far it is from where it should be: positives at 1 + margin, negatives at -margin.

    Per anchor softplus(lse_n(scale * a_n (s_n - margin)) + lse_p(-scale * a_p (s_p - 1 + margin))) with
    a_p = relu(1 + margin - s_p), a_n = relu(s_n + margin), both without gradient; the mean over the anchors that have
    positives and negatives. Sun et al. 2020, eq. 6 with O_p = 1 + m, O_n = -m, D_p = 1 - m, D_n = m.
    """

    margin: float = 0.4
    scale: float = 80.0

    def __post_init__(self) -> None:
        require_settings(self, specs.Circle)

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        near_AK = block.dot_AB.gather(1, block.slots.column_AK)
        pull_AK = F.relu(1 + self.margin - near_AK.detach())
        push_AB = F.relu(block.dot_AB.detach() + self.margin)
        near_A = log_sum_exp_slots(-self.scale * pull_AK * (near_AK - 1 + self.margin), block)
        far_A = log_sum_exp(self.scale * push_AB * (block.dot_AB - self.margin), block.negative_AB)
        counted_A = block.has_positive_A & block.has_negative_A
        return (Part(torch.where(counted_A, F.softplus(near_A + far_A), 0), counted_A),)
