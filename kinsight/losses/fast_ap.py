"""FastAP: average precision from histograms of distances."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.specs import losses as specs


@dataclass(frozen=True)
class FastAP(PairLoss):
    """1 - average precision, where the squared distances 0 to 4 of unit rows are spread over bins by triangles.

    Per anchor: 1 - sum_b h+_b H+_b / H_b / P, with h+ the positives' histogram and H+, H the running sums of the
    positives' and of all; the mean over the anchors that have a positive. Cakir et al. 2019, eq. 8.
    """

    bins: int = 10

    def __post_init__(self) -> None:
        require_settings(self, specs.FastAP)

    def width(self, most_positives: int) -> int:
        """See `PairLoss.width`."""
        return self.bins

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        column_AK, filled_AK = block.slots
        place_AB = block.squared() * (self.bins / 4)
        place_AK = place_AB.gather(1, column_AK)
        counted_AB = block.negative_AB.to(place_AB.dtype)
        near, far = [], []
        for edge in range(self.bins + 1):
            near.append((F.relu(1 - (place_AK - edge).abs()) * filled_AK).sum(1))
            far.append(torch.linalg.vecdot(F.relu(1 - (place_AB - edge).abs()), counted_AB))
        near_AH, far_AH = torch.stack(near, 1), torch.stack(far, 1)
        running_AH = near_AH.cumsum(1)
        all_AH = running_AH + far_AH.cumsum(1)
        product_AH = near_AH * running_AH
        share_AH = torch.where(product_AH > 0, product_AH / torch.where(all_AH > 0, all_AH, 1), 0)
        counted_A = block.has_positive_A
        loss_A = 1 - share_AH.sum(1) / filled_AK.sum(1).clamp_min(1)
        return (Part(torch.where(counted_A, loss_A, 0), counted_A),)
