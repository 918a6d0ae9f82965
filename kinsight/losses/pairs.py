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
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.losses.block import Block, Miner, Part
from kinsight.losses.numerics import nonzero, unit_rows, wide_dtype, without_autocast
from kinsight.losses.pair_blocks import Blocks, Plan
from kinsight.relations import Relation, SameLabel

_SAME_LABEL = SameLabel()


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
        plan = Plan(loss, anchor_target, other_target, relation, miner, sample_weight_A, first, together)
        total_P, count_P = Blocks.apply(plan, anchor_RD, other_BD, *(weight.to(dtype) for weight in loss.weights()))
    weights = [level.weight for level in relation.levels for _ in loss.part_names]
    return PairSums(total_P, count_P, torch.tensor(weights, dtype=dtype, device=total_P.device))


def _prepared(emb_RD: Tensor, dtype: torch.dtype, *, unit: bool) -> Tensor:
    emb_RD = emb_RD.to(dtype)
    return unit_rows(emb_RD) if unit else emb_RD
