"""Sums over the pairs of a block that stay finite where there is no pair."""

import torch
from torch import Tensor

from kinsight.losses.block import Block


def log_sum_exp(value_AB: Tensor, counted_AB: Tensor) -> Tensor:
    """log of the sum of e^value over the counted entries, (A,); about the lowest number where there is none.

    That number instead of -inf, so that an anchor without pairs does not make gradients nan: what follows is a
    softplus, which has none there.
    """
    return value_AB.masked_fill(~counted_AB, torch.finfo(value_AB.dtype).min / 4).logsumexp(1)


def log_sum_exp_slots(value_AK: Tensor, block: Block) -> Tensor:
    """The same over the positives' slots."""
    filled_AK = block.slots.filled_AK
    if value_AK.shape[1] == 0:
        return value_AK.new_full((len(value_AK),), torch.finfo(value_AK.dtype).min / 4)
    return log_sum_exp(value_AK, filled_AK)
