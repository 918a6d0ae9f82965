"""Triplet loss over all triplets of a batch, or those a miner chose."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kinsight.losses.block import Block, Part, Triplets
from kinsight.losses.distances import Distance, distances
from kinsight.losses.pairs import PairLoss
from kinsight.losses.settings import require_settings
from kinsight.specs import losses as specs

Counted = Literal["active", "all"]


@dataclass(frozen=True)
class Triplet(PairLoss):
    """Every positive nearer to its anchor than every negative, by a margin.

    Mean of relu(d_ap - d_an + margin) over the triplets where it is not 0 (`mean_over` "active") or all of them.
    Schroff et al. 2015, eq. 2; Hermans et al. 2017 for the mean over active ones.

    All triplets cost as much as all pairs: the loss is piecewise linear, so that it and its gradient follow from how
    many negatives each positive still has to beat, and the reverse, which a search in sorted positives counts.
    """

    margin: float = 0.2
    distance: Distance = "squared-euclidean"
    mean_over: Counted = "active"
    part_names: ClassVar[tuple[str, ...]] = ("triplets",)
    most_rows: ClassVar[int | None] = 256  # places among bounds are integers of two sizes: much for each pair

    def __post_init__(self) -> None:
        require_settings(self, specs.Triplet)

    def parts(self, block: Block) -> tuple[Part, ...]:
        """See `PairLoss.parts`."""
        distance_AB = distances(block, self.distance)
        if block.triplets is not None:
            return (self._chosen(distance_AB, block.triplets),)
        factor_AB, active_A, all_A = _factors(block, distance_AB.detach(), self.margin)
        total_A = torch.linalg.vecdot(factor_AB, distance_AB) + self.margin * active_A
        return (Part(total_A, active_A if self.mean_over == "active" else all_A),)

    def _chosen(self, distance_AB: Tensor, triplets: Triplets) -> Part:
        anchor_T, positive_T, negative_T = triplets
        loss_T = F.relu(distance_AB[anchor_T, positive_T] - distance_AB[anchor_T, negative_T] + self.margin)
        counted_T = loss_T.detach() > 0 if self.mean_over == "active" else torch.ones_like(loss_T)
        total_A = loss_T.new_zeros(len(distance_AB)).index_add(0, anchor_T, loss_T)
        return Part(total_A, torch.zeros_like(total_A).index_add_(0, anchor_T, counted_T.to(total_A)).detach())


def _factors(block: Block, distance_AB: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """What each distance is multiplied by in the sum over all active triplets, how many those are, and how many all.

    A positive at p and a negative at n are active when n < p + margin. A negative's place among its anchor's sorted
    p + margin tells how many positives it is active with; how many negatives lie before each place, the reverse.
    """
    column_AK, filled_AK = block.slots
    most, dtype = column_AK.shape[1], distance_AB.dtype
    bound_AK = (distance_AB.gather(1, column_AK) + margin).masked_fill(~filled_AK, float("inf"))
    bound_AK, order_AK = bound_AK.sort(1)
    number_A1 = filled_AK.sum(1, keepdim=True, dtype=torch.int32)
    place_AB = torch.searchsorted(bound_AK, distance_AB, right=True, out_int32=True)
    # bounds at or below a negative are beaten; unfilled ones, infinite, come last and do not count
    at_place = torch.zeros(len(distance_AB), most + 1, dtype=dtype, device=distance_AB.device)
    at_place.scatter_add_(1, place_AB.long(), block.negative_AB.to(dtype))
    beats_AK = at_place[:, :most].cumsum(1) * filled_AK.gather(1, order_AK)
    factor_AB = place_AB.sub_(number_A1).clamp_max_(0).to(dtype).mul_(block.negative_AB)
    factor_AB.scatter_add_(1, column_AK.gather(1, order_AK), beats_AK)
    return factor_AB, beats_AK.sum(1), number_A1[:, 0] * block.negative_AB.sum(1)
