"""Smooth ranks of the positives, which the losses that stand for retrieval metrics are made of."""

from typing import NamedTuple

import torch
from torch import Tensor

from kinsight.losses.block import Block


class SmoothRanks(NamedTuple):
    """Of each positive slot, from 1: among the positives alone, and among all rows; (A, K)."""

    among_positives_AK: Tensor
    among_all_AK: Tensor


def smooth_ranks(block: Block, temperature: float) -> SmoothRanks:
    """1 + sum over the others of sigmoid((s_other - s_positive) / temperature); unfilled slots mean nothing.

    Memory: A x B for each slot, which a block's size allows for (`PairLoss.width`).
    """
    column_AK, filled_AK = block.slots
    near_AK = block.dot_AB.gather(1, column_AK)
    beaten_AKK = torch.sigmoid((near_AK[:, None, :] - near_AK[:, :, None]) / temperature) * filled_AK[:, None, :]
    own = torch.eye(column_AK.shape[1], dtype=torch.bool, device=near_AK.device)
    among_positives_AK = 1 + beaten_AKK.masked_fill(own, 0).sum(2)
    counted_AB = block.negative_AB.to(near_AK.dtype)
    slots = [
        torch.linalg.vecdot(torch.sigmoid((block.dot_AB - near_AK[:, slot : slot + 1]) / temperature), counted_AB)
        for slot in range(near_AK.shape[1])
    ]
    among_negatives_AK = torch.stack(slots, 1) if slots else torch.zeros_like(near_AK)
    return SmoothRanks(among_positives_AK, among_positives_AK + among_negatives_AK)
