"""The weighted sum of losses that training minimises, exact on any number of processes.

Distributed data parallel averages the gradients of the ranks. Every term here is therefore scaled such that the mean
over the ranks of loss, gradients and statistics is what one process computes on the concatenated batch, also when the
ranks' batches differ in size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from kinsight.errors import SpecError
from kinsight.losses.head import ClassHead, Stats
from kinsight.losses.numerics import nonzero, wide_dtype
from kinsight.parallel.collectives import Group, all_gather_rows, all_reduce_sum, rank, row_counts, world_size


class AnchorLoss(Protocol):
    """A pair loss of some anchors against all embeddings, as `supcon_anchors`: (loss_A, has_positive_A)."""

    def __call__(
        self, anchor_AD: Tensor, anchor_label_A: Tensor, emb_BD: Tensor, label_B: Tensor, *, first: int
    ) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Batch:
    """One rank's part of a batch, and its place in the whole.

    emb: (B, D). aux: (B, D'), the auxiliary features, or the embeddings again. target: (B,). sample_weight: (B,).
    counts: rows of each rank; None where nobody asked. share: what a mean over the local rows must be multiplied by.
    piece: this batch's rows over all ranks, as a share of the optimizer step's.
    """

    emb: Tensor
    aux: Tensor
    target: Tensor
    sample_weight: Tensor | None
    counts: list[int] | None
    share: Tensor | float
    piece: float
    group: Group


class HeadTerm(nn.Module):
    """A head over classes, on the embeddings or (`reads_aux`) on the auxiliary features; needs no other rank's rows."""

    def __init__(self, name: str, weight: float, head: ClassHead, *, reads_aux: bool = False) -> None:
        super().__init__()
        self.name, self.weight, self.head, self.reads_aux = name, weight, head, reads_aux

    def forward(self, batch: Batch) -> tuple[Tensor, Stats]:
        features_BD = batch.aux if self.reads_aux else batch.emb
        loss, stats = self.head(features_BD, batch.target, batch.sample_weight)
        return loss * batch.share, {key: value * batch.share for key, value in stats.items()}


class PairTerm(nn.Module):
    """A loss over pairs: this rank's anchors against the embeddings of all ranks, with gradient to all of them."""

    def __init__(self, name: str, weight: float, anchor_loss: AnchorLoss) -> None:
        super().__init__()
        self.name, self.weight, self.anchor_loss = name, weight, anchor_loss

    def forward(self, batch: Batch) -> tuple[Tensor, Stats]:
        """Mean over all ranks' anchors with a positive; statistic `anchors`: how many those are."""
        group, counts = batch.group, batch.counts
        all_emb_BD = all_gather_rows(batch.emb, group, counts=counts)
        all_target_B = all_gather_rows(batch.target, group, counts=counts)
        first = sum(counts[: rank(group)]) if counts else 0
        loss_A, has_positive_A = self.anchor_loss(batch.emb, batch.target, all_emb_BD, all_target_B, first=first)
        weight_A = has_positive_A.to(loss_A.dtype)
        anchors = weight_A.sum()
        if batch.sample_weight is not None:
            weight_A = weight_A * batch.sample_weight
        total_weight, anchors = all_reduce_sum(torch.stack([weight_A.sum(), anchors]), group)
        loss = (loss_A * weight_A).sum() / nonzero(total_weight)
        return loss * (world_size(group) * batch.piece), {"anchors": anchors}


class Objective(nn.Module):
    """Sum of weighted terms; all class weights of a training live in it.

    terms: at least one. The first is the main one; its head, if it has one, predicts.
    group: the process group whose ranks share a batch (default: all).
    """

    def __init__(self, terms: Sequence[HeadTerm | PairTerm], *, group: Group = None) -> None:
        super().__init__()
        assert terms, "an objective has at least one term"
        assert len({term.name for term in terms}) == len(terms), "terms have names of their own"
        self.terms = nn.ModuleList(terms)
        self.group = group

    @property
    def head(self) -> ClassHead | None:
        """The main term's head over classes; None when that is a pair loss."""
        main = self.terms[0]
        return main.head if isinstance(main, HeadTerm) else None

    def logits(self, emb_BD: Tensor) -> Tensor:
        """Class scores (B, C) of the main term's head. Raises SpecError when that is a pair loss."""
        if self.head is None:
            raise SpecError(
                "loss.no-classes",
                "the main loss compares pairs and has no class scores",
                field="loss.kind",
                remedy="choose a loss over classes, such as am-softmax or softmax",
            )
        return self.head.logits(emb_BD)

    def forward(
        self,
        emb_BD: Tensor,
        target_B: Tensor,
        *,
        aux_BD: Tensor | None = None,
        global_batch: int | None = None,
        sample_weight_B: Tensor | None = None,
    ) -> tuple[Tensor, Stats]:
        """This rank's loss and detached 0-d statistics: `loss`, `<term>.loss`, `<term>.accuracy` or `<term>.anchors`.

        emb_BD, target_B: this rank's rows, not gathered. aux_BD: input of the terms that read auxiliary features.
        global_batch: rows of the whole optimizer step, over all ranks and all pieces it is accumulated from; without
        it, the rows of all ranks now. Summed over the pieces and averaged over the ranks, the loss, its gradients and
        the statistics are those of one process on the whole step (but pairs are sought within a piece only).
        sample_weight_B: weights from 0, on all ranks or none; every mean becomes sum(w * loss) / sum(w), within a piece
        where a step has several.
        Raises SpecError when a term reads auxiliary features and there are none.
        """
        batch = self._batch(emb_BD, target_B, aux_BD, global_batch, sample_weight_B)
        total = emb_BD.new_zeros((), dtype=torch.float32)
        stats: Stats = {}
        for term in self.terms:
            assert isinstance(term, HeadTerm | PairTerm)
            loss, term_stats = term(batch)
            total = total + term.weight * loss
            stats[f"{term.name}.loss"] = loss.detach()
            stats |= {f"{term.name}.{key}": value.detach() for key, value in term_stats.items()}
        return total, {"loss": total.detach(), **stats}

    def _batch(
        self, emb_BD: Tensor, target_B: Tensor, aux_BD: Tensor | None, global_batch: int | None, weight_B: Tensor | None
    ) -> Batch:
        if aux_BD is None and any(isinstance(term, HeadTerm) and term.reads_aux for term in self.terms):
            raise SpecError(
                "loss.aux",
                "a term reads auxiliary features, and the model gives none",
                remedy="pass the neck's second output as aux_BD",
            )
        rows, world = emb_BD.shape[0], world_size(self.group)
        counts = None
        if world > 1 and (global_batch is None or weight_B is not None or self._has_pairs()):
            counts = row_counts(rows, emb_BD.device, self.group)
        rows_now = sum(counts) if counts else rows
        whole = rows_now if global_batch is None else global_batch
        share: Tensor | float = world * rows / max(whole, 1)
        if weight_B is not None:
            local = weight_B.detach().sum(dtype=wide_dtype(emb_BD, weight_B))
            share = world * rows_now / max(whole, 1) * local / nonzero(all_reduce_sum(local, self.group))
        return Batch(
            emb=emb_BD,
            aux=emb_BD if aux_BD is None else aux_BD,
            target=target_B,
            sample_weight=weight_B,
            counts=counts,
            share=share,
            piece=rows_now / max(whole, 1),
            group=self.group,
        )

    def _has_pairs(self) -> bool:
        return any(isinstance(term, PairTerm) for term in self.terms)
