"""Each pair classified on its own, with a learned threshold."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinsight.losses.block import Block, Part
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_like
from kinsight.specs import losses as specs


class SigmoidPairs(nn.Module, PairLoss):
    """-log sigmoid(z (e^t s + b)) over all pairs, z = 1 for positives and -1 for negatives; t and b are learned.

    Per anchor the sum over its pairs; the mean over the anchors that have any. Zhai et al. 2023 (SigLIP), eq. 1, within
    one kind of image: an anchor may have several positives. A positive of weight w is one to the degree w, and a
    negative to the degree 1 - w.

    scale: e^t at first. bias: b at first; far below 0, since nearly all pairs are negative.
    """

    __call__ = PairLoss.__call__
    weighs_positives: ClassVar[bool] = True

    def __init__(self, scale: float = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        require_like(specs.SigmoidPairs, scale=scale, bias=bias)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def weights(self) -> tuple[Tensor, ...]:
        """See `PairLoss.weights`."""
        return self.log_scale, self.bias

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        log_scale, bias = block.parameters
        column_AK, filled_AK = block.slots
        logit_AB = block.dot_AB * log_scale.exp() + bias
        near_AK, weight_AK = logit_AB.gather(1, column_AK), block.slot_weights
        near_A = (F.softplus(-near_AK) * weight_AK).sum(1)
        if block.degree_AB is not None:
            near_A = near_A + (F.softplus(near_AK) * (filled_AK.to(weight_AK.dtype) - weight_AK)).sum(1)
        far_A = torch.linalg.vecdot(F.softplus(logit_AB), block.negative_AB.to(logit_AB.dtype))
        return (Part(near_A + far_A, block.has_positive_A | block.has_negative_A),)
