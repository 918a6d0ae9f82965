"""Losses over pairs: some anchors against all rows of a batch, in blocks, with the gradient taken on the way.

    loss = Triplet(margin=0.2)                       # a function with its settings bound
    loss(embeddings, labels)                         # scalar, with gradient
    loss(embeddings, labels, miner=HardPairs(), relation=SharedLabels())

A loss looks at one `Block` at a time: the products of some anchors with all rows, and which of the pairs are alike.
Its gradient with respect to these products is taken at once and carried to the embeddings, so that memory grows with
a block, never with B x B, let alone B x B x B; nothing is computed twice in the backward pass.

Shapes: A anchors of a block, B rows they are compared with, D length of an embedding, K positives of an anchor at
most, T triplets, P parts of a loss (over all levels of the relation), R rows of one process.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kinsight.errors import DataError, SpecError
from kinsight.losses.numerics import nonzero, unit_rows, wide_dtype, without_autocast
from kinsight.relations import Relation, SameLabel

_BLOCK_NUMBERS = 1 << 21
"""Products in a block: 8 MB of float32, which a core's caches still help with."""
_SPARSE = 256
"""A gradient with one pair in so many is carried on pair by pair: positives' are."""
_SAME_LABEL = SameLabel()


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


class PairLoss(ABC):
    """The base of the losses over pairs. A loss is the sum of its parts' means."""

    unit: ClassVar[bool] = True
    """Whether rows are brought to length 1 first."""
    part_names: ClassVar[tuple[str, ...]] = ("anchors",)
    """What the parts' means are over."""
    weighs_positives: ClassVar[bool] = False
    """Whether positives may weigh differently, as a weighted relation says."""
    most_rows: ClassVar[int | None] = None
    """Anchors of a block at most, for losses that hold much for each pair; None: as many as fit."""

    @abstractmethod
    def parts(self, block: Block) -> tuple[Part, ...]:
        """The parts of these anchors, in the order of `part_names`."""

    def width(self, most_positives: int) -> int:
        """Matrices of a block's size that are alive at once, beyond a handful."""
        return 1

    def weights(self) -> tuple[Tensor, ...]:
        """What the loss itself learns; a block carries them as `parameters`."""
        return ()

    def __call__(
        self,
        emb_BD: Tensor,
        target: Tensor,
        *,
        relation: Relation = _SAME_LABEL,
        miner: Miner | None = None,
        sample_weight_B: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, every row an anchor; scalar.

        emb_BD: any floating dtype and lengths, normalised here where the loss compares directions. target: what the
        relation reads, int64 class ids (B,) by default. miner: chooses among the pairs; default: all.
        sample_weight_B: weights of the anchors from 0.
        Without a pair that counts the loss is 0 with zero gradients, still connected to the graph.
        Raises DataError unless the targets fit the relation.
        """
        sums = pair_sums(
            self, emb_BD, target, emb_BD, target, relation=relation, miner=miner, sample_weight_A=sample_weight_B
        )
        return sums.loss(sums.count_P)


class PairSums(NamedTuple):
    """What anchors contribute: numerators and denominators of the means, and the parts' weights; (P,) each."""

    total_P: Tensor
    count_P: Tensor
    weight_P: Tensor

    def loss(self, count_P: Tensor) -> Tensor:
        """The sum of the means, with the denominators of all processes; NaN if an embedding is not a finite number."""
        return (self.total_P * (self.weight_P / nonzero(count_P))).sum()


def pair_sums(
    loss: PairLoss,
    anchor_RD: Tensor,
    anchor_target: Tensor,
    other_BD: Tensor,
    other_target: Tensor,
    *,
    relation: Relation = _SAME_LABEL,
    miner: Miner | None = None,
    sample_weight_A: Tensor | None = None,
    first: int = 0,
) -> PairSums:
    """The loss of some anchors against all rows, before its division.

    first: the anchors are rows first..first+R-1 of the others; nothing is compared with itself.
    The gradient reaches both, and the loss's own weights. Computed in float32 at least.
    """
    for emb, target in ((anchor_RD, anchor_target), (other_BD, other_target)):
        if emb.dim() != 2 or emb.shape[1] != anchor_RD.shape[1]:
            raise DataError(
                "loss.embeddings",
                f"embeddings of shape {tuple(emb.shape)}: expected (rows, {anchor_RD.shape[-1]})",
                remedy="pass one embedding per row",
            )
        relation.check(target, len(emb))
    if relation.weighted and not loss.weighs_positives:
        raise SpecError(
            "loss.weighted-relation",
            f"{type(loss).__name__} has no weights of pairs",
            field="relation.weighted",
            remedy="leave it off, or choose contrastive, multi-similarity, info-nce, supcon or sigmoid-pairs",
        )
    dtype = wide_dtype(anchor_RD, other_BD)
    with without_autocast(anchor_RD):
        together = anchor_RD is other_BD
        anchor_RD = _prepared(anchor_RD, dtype, unit=loss.unit)
        other_BD = anchor_RD if together else _prepared(other_BD, dtype, unit=loss.unit)
        plan = _Plan(loss, anchor_target, other_target, relation, miner, sample_weight_A, first, together)
        total_P, count_P = _Blocks.apply(plan, anchor_RD, other_BD, *(weight.to(dtype) for weight in loss.weights()))
    weights = [level.weight for level in relation.levels for _ in loss.part_names]
    return PairSums(total_P, count_P, torch.tensor(weights, dtype=dtype, device=total_P.device))


@dataclass(frozen=True)
class _Plan:
    loss: PairLoss
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

    def __init__(self, plan: _Plan, anchor_RD: Tensor, other_BD: Tensor, weights: Sequence[Tensor]) -> None:
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


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, anchor_RD: Tensor, other_BD: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
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


def _prepared(emb_RD: Tensor, dtype: torch.dtype, *, unit: bool) -> Tensor:
    emb_RD = emb_RD.to(dtype)
    return unit_rows(emb_RD) if unit else emb_RD


def _block_rows(plan: _Plan, start: int, num_others: int) -> int:
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
    plan: _Plan, anchor_RD: Tensor, other_BD: Tensor, weights: Sequence[Tensor], start: int, stop: int, *, grad: bool
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
