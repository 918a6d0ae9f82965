"""What a loss over pairs sees at once: the products of some anchors with all rows, and which of the pairs are alike.

Shapes: A anchors of a block, B rows they are compared with, D length of an embedding, K positives of an anchor at
most, T triplets, P parts of a loss.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Part(NamedTuple):
    """A mean to be: sum of `total_A` over sum of `count_A`. total_A: (A,), count_A: (A,), without gradient."""

    total_A: Tensor
    count_A: Tensor


class Triplets(NamedTuple):
    """Anchors and columns of a block, int64 (T,)."""

    anchor_T: Tensor
    positive_T: Tensor
    negative_T: Tensor


class Slots(NamedTuple):
    """The positives of every anchor side by side: columns, int64 (A, K), and whether a slot is filled, bool."""

    column_AK: Tensor
    filled_AK: Tensor


@dataclass(frozen=True)
class Block:
    """Some anchors against all rows.

    anchor_AD, other_BD: as the loss compares them, unit rows or not; without gradient.
    dot_AB: their products, a leaf of the graph. anchor_square_A, other_square_B: squared lengths, None for unit rows.
    positive_AB, negative_AB: bool; nobody is compared with itself. own_A: the anchors' own rows among the others.
    triplets: those a miner has chosen, else None. degree_AB: what a positive weighs; None: 1.
    parameters: what the loss itself learns, as leaves of the graph.
    """

    anchor_AD: Tensor
    other_BD: Tensor
    dot_AB: Tensor
    anchor_square_A: Tensor | None
    other_square_B: Tensor | None
    positive_AB: Tensor
    negative_AB: Tensor
    own_A: Tensor
    triplets: Triplets | None = None
    degree_AB: Tensor | None = None
    parameters: tuple[Tensor, ...] = field(default=())

    def squared(self, least: float = 0.0) -> Tensor:
        """Squared Euclidean distances, (A, B); smaller ones are `least`, without gradient."""
        if self.anchor_square_A is None or self.other_square_B is None:
            return torch.rsub(self.dot_AB, 2, alpha=2).clamp_min(least)
        return (self.anchor_square_A[:, None] + self.other_square_B - 2 * self.dot_AB).clamp_min(least)

    @cached_property
    def slots(self) -> Slots:
        """The positives of each anchor, in the order of their columns."""
        row_T, column_T = self.positive_AB.nonzero(as_tuple=True)
        count_A = self.positive_AB.sum(1)
        most = int(count_A.max()) if count_A.numel() else 0
        first_A = count_A.cumsum(0) - count_A
        slot_T = torch.arange(len(row_T), device=row_T.device) - first_A[row_T]
        column_AK = torch.zeros(len(count_A), most, dtype=torch.int64, device=row_T.device)
        column_AK[row_T, slot_T] = column_T
        filled_AK = torch.arange(most, device=row_T.device) < count_A[:, None]
        return Slots(column_AK, filled_AK)

    @cached_property
    def slot_weights(self) -> Tensor:
        """What the positives weigh, (A, K); 0 where a slot is not filled."""
        column_AK, filled_AK = self.slots
        weight_AK = filled_AK.to(self.dot_AB.dtype)
        return weight_AK if self.degree_AB is None else weight_AK * self.degree_AB.gather(1, column_AK)

    @cached_property
    def has_positive_A(self) -> Tensor:
        """Whether an anchor has any."""
        return self.positive_AB.any(1)

    @cached_property
    def has_negative_A(self) -> Tensor:
        """Whether an anchor has any."""
        return self.negative_AB.any(1)

    def with_pairs(self, positive_AB: Tensor, negative_AB: Tensor) -> "Block":
        """The same products with fewer pairs."""
        return replace(self, positive_AB=positive_AB, negative_AB=negative_AB, triplets=None)

    def with_triplets(self, triplets: Triplets) -> "Block":
        """The same products with these triplets, and the pairs that occur in them."""
        positive_AB, negative_AB = torch.zeros_like(self.positive_AB), torch.zeros_like(self.negative_AB)
        positive_AB[triplets.anchor_T, triplets.positive_T] = True
        negative_AB[triplets.anchor_T, triplets.negative_T] = True
        return replace(self, positive_AB=positive_AB, negative_AB=negative_AB, triplets=triplets)


class Miner(Protocol):
    """Chooses among the pairs or triplets of a block, without gradient."""

    def __call__(self, block: Block) -> Block: ...
