"""Blocks of a loss over pairs one after the other, each with its gradient, which is carried to the embeddings at once.

Shapes: A anchors of a block, B rows they are compared with, D length of an embedding, P parts of a loss (over all
levels of the relation), R rows of one process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kinsight.losses.block import Block, Miner, Part
from kinsight.relations import Relation

if TYPE_CHECKING:
    from kinsight.losses.pairs import PairLoss

_BLOCK_NUMBERS = 1 << 21
"""Products in a block: 8 MB of float32, which a core's caches still help with."""
_SPARSE = 256
"""A gradient with one pair in so many is carried on pair by pair: positives' are."""


@dataclass(frozen=True)
class Plan:
    loss: "PairLoss"
    anchor_target: Tensor
    other_target: Tensor
    relation: Relation
    miner: Miner | None
    sample_weight_A: Tensor | None
    first: int
    together: bool

    @property
    def num_parts(self) -> int:
        return len(self.relation.levels) * len(self.loss.part_names)

    def weighted(self, part: Part, start: int) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of a block that starts at this anchor."""
        count_A = part.count_A.to(part.total_A.dtype)
        if self.sample_weight_A is None:
            return part.total_A.sum(), count_A.sum()
        weight_A = self.sample_weight_A[start : start + len(count_A)].detach().to(count_A)
        return part.total_A @ weight_A, count_A @ weight_A


class _Slopes(NamedTuple):
    """The gradient of one number with respect to a block's products and squared lengths; None: none."""

    dot_AB: Tensor | None
    anchor_square_A: Tensor | None
    other_square_B: Tensor | None

    def carry(self, anchor_AD: Tensor, other_BD: Tensor, to_anchor_AD: Tensor, to_other_BD: Tensor) -> None:
        """Add what follows for the rows the products are made of."""
        if self.dot_AB is not None and _is_sparse(self.dot_AB):
            row_T, column_T = self.dot_AB.nonzero(as_tuple=True)
            slope_T1 = self.dot_AB[row_T, column_T, None]
            to_anchor_AD.index_add_(0, row_T, slope_T1 * other_BD[column_T])
            to_other_BD.index_add_(0, column_T, slope_T1 * anchor_AD[row_T])
        elif self.dot_AB is not None:
            to_anchor_AD.addmm_(self.dot_AB, other_BD)
            to_other_BD.addmm_(self.dot_AB.T, anchor_AD)
        if self.anchor_square_A is not None:
            to_anchor_AD.addcmul_(anchor_AD, self.anchor_square_A[:, None], value=2)
        if self.other_square_B is not None:
            to_other_BD.addcmul_(other_BD, self.other_square_B[:, None], value=2)

    def carry_together(self, emb_BD: Tensor) -> Tensor:
        """What follows for rows that are anchors and others alike: one product of matrices instead of two."""
        grad_BD = torch.zeros_like(emb_BD) if self.dot_AB is None else (self.dot_AB + self.dot_AB.T) @ emb_BD
        for square_B in (self.anchor_square_A, self.other_square_B):
            if square_B is not None:
                grad_BD.addcmul_(emb_BD, square_B[:, None], value=2)
        return grad_BD


class _Gradients:
    """Of each part, with respect to the anchors, the others and the loss's own weights.

    Where one block holds everything its slopes are kept and carried on in the backward pass, for all parts at once;
    otherwise they are carried on block by block.
    """

    def __init__(self, plan: Plan, anchor_RD: Tensor, other_BD: Tensor, weights: Sequence[Tensor]) -> None:
        self.anchor_RD, self.other_BD, self.together = anchor_RD, other_BD, plan.together
        number = plan.num_parts
        self.one_block = _block_rows(plan, 0, len(other_BD)) >= len(anchor_RD)
        self.kept: list[_Slopes] = [_Slopes(None, None, None)] * number
        self.weights = [weight.new_zeros(number, *weight.shape) for weight in weights]
        if not self.one_block:
            self.anchor_PRD = anchor_RD.new_zeros(number, *anchor_RD.shape)
            self.other_PBD = other_BD.new_zeros(number, *other_BD.shape)

    def add(self, part: int, start: int, block: Block, total: Tensor, *, keep: bool) -> None:
        """What `total`, of the block whose first anchor is `start`, adds to a part."""
        leaves = [block.dot_AB, block.anchor_square_A, block.other_square_B, *block.parameters]
        present = [leaf for leaf in leaves if leaf is not None]
        grads = iter(torch.autograd.grad(total, present, retain_graph=keep, allow_unused=True))
        slopes = _Slopes(*(None if leaf is None else next(grads) for leaf in leaves[:3]))
        if self.one_block:
            self.kept[part] = slopes
        else:
            anchor_AD = self.anchor_PRD[part, start : start + len(block.anchor_AD)]
            slopes.carry(block.anchor_AD, block.other_BD, anchor_AD, self.other_PBD[part])
        for mine, grad in zip(self.weights, grads, strict=True):
            if grad is not None:
                mine[part] += grad

    def taken(self, outer_P: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the parts' sum with these factors: to anchors, others, weights."""
        weights = [torch.tensordot(outer_P, weight, dims=1) for weight in self.weights]
        if not self.one_block:
            rows = (torch.tensordot(outer_P, each, dims=1) for each in (self.anchor_PRD, self.other_PBD))
            return *rows, *weights
        slopes = _Slopes(*(_weighted_sum(each, outer_P) for each in zip(*self.kept, strict=True)))
        if self.together:
            return slopes.carry_together(self.anchor_RD), None, *weights
        to_anchor, to_other = torch.zeros_like(self.anchor_RD), torch.zeros_like(self.other_BD)
        slopes.carry(self.anchor_RD, self.other_BD, to_anchor, to_other)
        return to_anchor, to_other, *weights


class Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, anchor_RD: Tensor, other_BD: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[1:])
        total_P, count_P = (anchor_RD.new_zeros(plan.num_parts) for _ in range(2))
        grads = _Gradients(plan, anchor_RD, other_BD, weights) if wanted else None
        number, start = len(anchor_RD), 0
        while start < number:
            stop = min(start + _block_rows(plan, start, len(other_BD)), number)
            place = 0
            for block in _blocks(plan, anchor_RD, other_BD, weights, start, stop, grad=wanted):
                with torch.set_grad_enabled(wanted):
                    found = [plan.weighted(part, start) for part in plan.loss.parts(block)]
                for order, (total, count) in enumerate(found):
                    total_P[place] += total.detach()
                    count_P[place] += count
                    if grads is not None and total.requires_grad:
                        grads.add(place, start, block, total, keep=order < len(found) - 1)
                    place += 1
            start = stop
        # Comparisons with NaN are false: without this a loss that counts or mines pairs would not show it.
        for rows in (anchor_RD, other_BD):
            if rows.numel():
                total_P += 0 * rows.amax() + 0 * rows.amin()
        ctx.grads = grads
        ctx.mark_non_differentiable(count_P)
        return total_P, count_P

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grads: _Gradients = ctx.grads
        assert grads is not None, "a backward pass without a gradient to be taken"
        return None, *grads.taken(outer[0])


def _is_sparse(slope_AB: Tensor) -> bool:
    """Whether pair by pair is quicker than products of matrices; not off the CPU, where they cost less than asking."""
    return slope_AB.device.type == "cpu" and int(slope_AB.count_nonzero()) * _SPARSE <= slope_AB.numel()


def _weighted_sum(given: Sequence[Tensor | None], factor_P: Tensor) -> Tensor | None:
    """Sum of factor times tensor over those that are there."""
    present = [(tensor, place) for place, tensor in enumerate(given) if tensor is not None]
    if not present:
        return None
    total = present[0][0] * factor_P[present[0][1]]
    for tensor, place in present[1:]:
        total.addcmul_(tensor, factor_P[place])
    return total


def _block_rows(plan: Plan, start: int, num_others: int) -> int:
    """How many anchors fit a block, the loss's own appetite counted."""
    loss, most = plan.loss, 1
    rows = _rows_of_width(loss.width(most), num_others)
    if loss.width(2) == loss.width(1):
        return rows if loss.most_rows is None else min(rows, loss.most_rows)
    stop = start  # it grows with the positives: how many have those that fit?
    while stop < min(start + rows, len(plan.anchor_target)):
        target = plan.anchor_target[stop : min(stop + 32, start + rows)]
        masks = plan.relation.masks(target, plan.other_target)
        here = max(int(mask.positive_AB.sum(1).max()) for mask in masks)
        if _rows_of_width(loss.width(max(most, here)), num_others) < stop - start:
            return stop - start  # these rows have more than those before: they begin a block of their own
        most = max(most, here)
        rows = _rows_of_width(loss.width(most), num_others)
        stop += len(target)
    return rows


def _rows_of_width(width: int, num_others: int) -> int:
    return max(1, _BLOCK_NUMBERS // max(num_others * width, 1))


def _blocks(
    plan: Plan, anchor_RD: Tensor, other_BD: Tensor, weights: Sequence[Tensor], start: int, stop: int, *, grad: bool
) -> list[Block]:
    """The anchors start..stop-1 at each level of the relation."""
    anchor_AD = anchor_RD[start:stop]
    dot_AB = anchor_AD @ other_BD.T
    unit = plan.loss.unit
    anchor_square_A = None if unit else anchor_AD.square().sum(1)
    other_square_B = None if unit else other_BD.square().sum(1)
    own = torch.arange(start, stop, device=dot_AB.device)
    degree_AB = plan.relation.degrees(plan.anchor_target[start:stop], plan.other_target)
    degree_AB = None if degree_AB is None else degree_AB.to(dot_AB)
    blocks = []
    for masks in plan.relation.masks(plan.anchor_target[start:stop], plan.other_target):
        for mask in masks:
            mask[own - start, own + plan.first] = False
        leaves = [_leaf(leaf, grad) for leaf in (dot_AB, anchor_square_A, other_square_B)]
        block = Block(
            anchor_AD=anchor_AD,
            other_BD=other_BD,
            dot_AB=leaves[0] if leaves[0] is not None else dot_AB,
            anchor_square_A=leaves[1],
            other_square_B=leaves[2],
            positive_AB=masks.positive_AB,
            negative_AB=masks.negative_AB,
            own_A=own + plan.first,
            degree_AB=degree_AB,
            parameters=tuple(weight.detach().requires_grad_(grad) for weight in weights),
        )
        blocks.append(plan.miner(block) if plan.miner is not None else block)
    return blocks


def _leaf(tensor: Tensor | None, grad: bool) -> Tensor | None:
    return None if tensor is None else tensor.detach().requires_grad_(grad)
