"""Miners: which pairs or triplets of a block a loss is to look at. They see no gradient.

Those that choose pairs leave fewer of them; those that choose triplets pick a negative for each positive pair, and a
loss over pairs then sees the pairs of these triplets.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.losses.block import Block, Triplets
from kinsight.losses.settings import require_settings
from kinsight.specs import miners as specs


@dataclass(frozen=True)
class HardPairs:
    """Each anchor's farthest positive and nearest negative, the "batch hard" of Hermans et al. 2017."""

    def __call__(self, block: Block) -> Block:
        """See `Miner`."""
        dot_AB = block.dot_AB.detach()
        return block.with_pairs(
            _only(dot_AB.masked_fill(~block.positive_AB, torch.inf).argmin(1), block.positive_AB),
            _only(dot_AB.masked_fill(~block.negative_AB, -torch.inf).argmax(1), block.negative_AB),
        )


@dataclass(frozen=True)
class SemiHard:
    """For each positive pair the nearest negative that is farther than the positive.

    Where there is none, the positive pair is left out. Schroff et al. 2015, section 3.2.
    """

    def __call__(self, block: Block) -> Block:
        """See `Miner`."""
        dot_AB = block.dot_AB.detach()
        column_AK, filled_AK = block.slots
        sorted_AB, order_AB = dot_AB.masked_fill(~block.negative_AB, -torch.inf).sort(1)
        near_AK = dot_AB.gather(1, column_AK)
        place_AK = torch.searchsorted(sorted_AB, near_AK) - 1  # the last one below the positive's cosine
        found_AK = (place_AK >= 0) & filled_AK
        place_AK = place_AK.clamp_min(0)
        found_AK &= sorted_AB.gather(1, place_AK) > -torch.inf
        return block.with_triplets(_triplets(column_AK, order_AB.gather(1, place_AK), found_AK))


@dataclass(frozen=True)
class DistanceWeighted:
    """For each positive pair a negative drawn so that all distances come about equally often.

    Weights are 1 / q(d), q the density of distances between random unit vectors of this length; distances below
    `cutoff` are taken for it, negatives from `farthest` on are not drawn. Where an anchor has no other, one of those is
    drawn evenly. Wu et al. 2017, eq. 2, for unit rows. Draws come from torch's generator of the device.
    """

    cutoff: float = 0.5
    farthest: float = 1.4

    def __post_init__(self) -> None:
        require_settings(self, specs.DistanceWeightedMiner)

    def __call__(self, block: Block) -> Block:
        """See `Miner`."""
        distance_AB = (2 - 2 * block.dot_AB.detach()).clamp_min(0).sqrt().clamp_min(self.cutoff)
        dim = block.anchor_AD.shape[1]
        log_weight_AB = (2 - dim) * distance_AB.log()
        log_weight_AB -= (dim - 3) / 2 * (1 - distance_AB.square() / 4).clamp_min(1e-6).log()
        allowed_AB = block.negative_AB & (distance_AB < self.farthest)
        log_weight_AB.masked_fill_(~allowed_AB, -torch.inf)
        log_weight_AB.masked_fill_(~allowed_AB.any(1, keepdim=True) & block.negative_AB, 0.0)
        column_AK, filled_AK = block.slots
        drawn_AK = _draw(log_weight_AB, column_AK.shape[1])
        return block.with_triplets(_triplets(column_AK, drawn_AK, filled_AK & block.has_negative_A[:, None]))


@dataclass(frozen=True)
class MultiSimilarityPairs:
    """Negatives that are nearer than the farthest positive, and positives farther than the nearest negative.

    Both widened by `epsilon` of cosine: s_n > min_p s_p - epsilon, s_p < max_n s_n + epsilon. Wang et al. 2019, eq. 11
    and 12.
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        require_settings(self, specs.MultiSimilarityMiner)

    def __call__(self, block: Block) -> Block:
        """See `Miner`."""
        dot_AB = block.dot_AB.detach()
        least_A1 = dot_AB.masked_fill(~block.positive_AB, torch.inf).amin(1, keepdim=True)
        most_A1 = dot_AB.masked_fill(~block.negative_AB, -torch.inf).amax(1, keepdim=True)
        return block.with_pairs(
            block.positive_AB & (dot_AB - self.epsilon < most_A1),
            block.negative_AB & (dot_AB + self.epsilon > least_A1),
        )


@dataclass(frozen=True)
class Angular:
    """For each positive pair the negative that sees it under the widest angle, if that is above `angle_deg`.

    The angle at the negative is arctan(|a - p| / (2 |n - (a + p) / 2|)), as in the angular loss of Wang et al. 2017.
    """

    angle_deg: float = 20.0

    def __post_init__(self) -> None:
        require_settings(self, specs.AngularMiner)

    def __call__(self, block: Block) -> Block:
        """See `Miner`."""
        column_AK, filled_AK = block.slots
        most = column_AK.shape[1]
        chosen_AK = torch.zeros_like(column_AK)
        found_AK = torch.zeros_like(filled_AK)
        dot_AB = block.dot_AB.detach()
        square_B = block.other_BD.square().sum(1)
        anchor_square_A1 = block.anchor_AD.square().sum(1, keepdim=True)
        slope = 2 * math.tan(math.radians(self.angle_deg))
        for slot in range(most):
            column_A1 = column_AK[:, slot : slot + 1]
            positive_AD = block.other_BD[column_A1[:, 0]]
            near_A1 = dot_AB.gather(1, column_A1)
            square_A1 = square_B[column_A1]
            centre_A1 = (anchor_square_A1 + square_A1 + 2 * near_A1) / 4
            squared_AB = square_B + centre_A1 - dot_AB - positive_AD @ block.other_BD.T
            least_A, chosen_AK[:, slot] = squared_AB.masked_fill_(~block.negative_AB, torch.inf).min(1)
            pair_A = (anchor_square_A1 + square_A1 - 2 * near_A1).clamp_min(0).sqrt()[:, 0]
            found_AK[:, slot] = pair_A > slope * least_A.clamp_min(0).sqrt()
        return block.with_triplets(_triplets(column_AK, chosen_AK, found_AK & filled_AK))


@dataclass(frozen=True)
class Consecutive:
    """The batch is made of triplets already: anchor, positive, negative, one after the other.

    Needs a sampler that makes such batches. Where an image of a triplet is missing, because it could not be read, the
    next three rows that are a triplet by their labels go on: one broken image costs one triplet, or two.
    """

    def __call__(self, block: Block) -> Block:
        """See `Miner`."""
        (anchor_T,) = (block.own_A + 2 < block.dot_AB.shape[1]).nonzero(as_tuple=True)
        own_T = block.own_A[anchor_T]
        right_T = block.positive_AB[anchor_T, own_T + 1] & block.negative_AB[anchor_T, own_T + 2]
        begins_T = torch.tensor(_three_apart(right_T.tolist()), dtype=torch.bool, device=own_T.device)
        own_T = own_T[begins_T]
        return block.with_triplets(Triplets(anchor_T[begins_T], own_T + 1, own_T + 2))


def _three_apart(right: list[bool]) -> list[bool]:
    """Of the rows where a triplet may begin those that begin one: from the front, none within another."""
    chosen, free_from = [], 0
    for row, fits in enumerate(right):
        begins = fits and row >= free_from
        chosen.append(begins)
        free_from = row + 3 if begins else free_from
    return chosen


def _only(column_A: Tensor, among_AB: Tensor) -> Tensor:
    """The mask with this column of each row left, where it was there."""
    only_AB = torch.zeros_like(among_AB).scatter_(1, column_A[:, None], True)
    return only_AB & among_AB


def _triplets(positive_AK: Tensor, negative_AK: Tensor, chosen_AK: Tensor) -> Triplets:
    anchor_T, slot_T = chosen_AK.nonzero(as_tuple=True)
    return Triplets(anchor_T, positive_AK[anchor_T, slot_T], negative_AK[anchor_T, slot_T])


def _draw(log_weight_AB: Tensor, number: int) -> Tensor:
    """Columns drawn by these weights, with replacement: (A, number). Rows without any weight give column 0."""
    weight_AB = (log_weight_AB - log_weight_AB.amax(1, keepdim=True)).nan_to_num_(-torch.inf).exp_()
    running_AB = weight_AB.cumsum(1)
    # a hair below 1, so that no product rounds up to the sum, behind the last column with a weight
    drawn_AK = torch.rand(len(weight_AB), number, dtype=weight_AB.dtype, device=weight_AB.device) * (1 - 1e-6)
    place_AK = torch.searchsorted(running_AB, drawn_AK * running_AB[:, -1:], right=True)
    return place_AK.clamp_max_(weight_AB.shape[1] - 1)
