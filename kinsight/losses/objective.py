"""The weighted sum of losses that training minimises, exact on any number of processes.

Distributed data parallel averages the gradients of the ranks. Every term here is therefore scaled such that the mean
over the ranks of loss, gradients and statistics is what one process computes on the concatenated batch, also when the
ranks' batches differ in size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinsight.errors import SpecError
from kinsight.losses.batch_losses import BatchLoss
from kinsight.losses.block import Miner
from kinsight.losses.head import ClassHead, Stats
from kinsight.losses.label_head import LabelHead
from kinsight.losses.memory import Memory
from kinsight.losses.numerics import nonzero, wide_dtype
from kinsight.losses.pairs import PairLoss, pair_sums
from kinsight.parallel.collectives import Group, all_gather_rows, all_reduce_sum, rank, row_counts, world_size
from kinsight.relations import Relation, SameLabel

_SAME_LABEL = SameLabel()


@dataclass(frozen=True)
class Batch:
    """One rank's part of a batch, and its place in the whole.

    emb: (B, D). aux: (B, D'), the auxiliary features, or the embeddings again. target: (B,), or what the relation
    reads. sample_weight: (B,).
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
    relation: Relation

    def from_everyone(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, of one shape, stacked; with gradient."""
        return all_gather_rows(tensor[None], self.group, counts=[1] * world_size(self.group))

    def everyone(self) -> tuple[Tensor, Tensor]:
        """The embeddings, with gradient, and targets of all ranks."""
        return (
            all_gather_rows(self.emb, self.group, counts=self.counts),
            all_gather_rows(self.target, self.group, counts=self.counts),
        )


class HeadTerm(nn.Module):
    """A head over classes or labels, on the embeddings or (`reads_aux`) the auxiliary features, each rank for its rows.

    A head over labels reads the targets as they are.
    What a head must know of the others' rows (sums over a class, mean lengths) it asks of `everyone`.
    """

    def __init__(self, name: str, weight: float, head: ClassHead | LabelHead, *, reads_aux: bool = False) -> None:
        super().__init__()
        self.name, self.weight, self.head, self.reads_aux = name, weight, head, reads_aux

    def forward(self, batch: Batch) -> tuple[Tensor, Stats]:
        features_BD = batch.aux if self.reads_aux else batch.emb
        target = batch.target if isinstance(self.head, LabelHead) else batch.relation.class_ids(batch.target)
        loss, stats = self.head(features_BD, target, batch.sample_weight, everyone=batch.from_everyone)
        factor = batch.piece if self.head.whole_batch else batch.share
        return loss * factor, {key: value * batch.share for key, value in stats.items()}


class PairTerm(nn.Module):
    """A loss over pairs: this rank's anchors against the embeddings of all ranks, with gradient to all of them."""

    def __init__(
        self,
        name: str,
        weight: float,
        loss: PairLoss,
        *,
        miner: Miner | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.name, self.weight, self.loss, self.miner = name, weight, loss, miner
        self.memory = memory

    def forward(self, batch: Batch) -> tuple[Tensor, Stats]:
        """The loss over all ranks' anchors; statistics: how many of what its means are over, such as `triplets`."""
        group, counts = batch.group, batch.counts
        other_BD, other_target = batch.everyone()
        first = sum(counts[: rank(group)]) if counts else 0
        seen_BD, seen_target = other_BD, other_target
        if self.memory is not None:
            kept_MD, kept_target = self.memory.rows()
            seen_BD = torch.cat([other_BD, kept_MD.to(other_BD.dtype)])
            seen_target = torch.cat([other_target, kept_target])
        sums = pair_sums(
            self.loss,
            batch.emb,
            batch.target,
            seen_BD,
            seen_target,
            relation=batch.relation,
            miner=self.miner,
            sample_weight_A=batch.sample_weight,
            first=first,
        )
        if self.memory is not None and self.training:
            self.memory.add(other_BD, other_target)
        count_P = all_reduce_sum(sums.count_P, group)
        stats = dict(zip(self.loss.part_names, count_P, strict=False))
        return sums.loss(count_P) * (world_size(group) * batch.piece), stats


class BatchTerm(nn.Module):
    """A loss of the whole batch, which every rank computes on the embeddings of all, with gradient to all of them."""

    def __init__(self, name: str, weight: float, loss: BatchLoss) -> None:
        super().__init__()
        self.name, self.weight, self.loss = name, weight, loss

    def forward(self, batch: Batch) -> tuple[Tensor, Stats]:
        """The loss; no statistics. Raises SpecError when samples have weights, which these losses have no place for."""
        if batch.sample_weight is not None:
            raise SpecError("loss.sample-weight", f"{self.name} looks at a batch as a whole: samples have no weights")
        emb_BD, target = batch.everyone()
        return self.loss(emb_BD, target, relation=batch.relation) * batch.piece, {}


Term = HeadTerm | PairTerm | BatchTerm


class Objective(nn.Module):
    """Sum of weighted terms; all class weights of a training live in it.

    terms: at least one. The first is the main one; its head, if it has one, predicts.
    relation: how the targets are read; heads over classes read their class ids.
    group: the process group whose ranks share a batch (default: all).
    """

    def __init__(self, terms: Sequence[Term], *, relation: Relation = _SAME_LABEL, group: Group = None) -> None:
        super().__init__()
        assert terms, "an objective has at least one term"
        assert len({term.name for term in terms}) == len(terms), "terms have names of their own"
        self.terms = nn.ModuleList(terms)
        self.relation, self.group = relation, group

    @property
    def head(self) -> ClassHead | LabelHead | None:
        """The main term's head over classes or labels; None when that compares pairs."""
        main = self.terms[0]
        return main.head if isinstance(main, HeadTerm) else None

    def logits(self, emb_BD: Tensor) -> Tensor:
        """Class scores (B, C) of the main term's head. Raises SpecError when that compares pairs."""
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
        mixed: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Stats]:
        """This rank's loss and detached 0-d statistics: `loss`, `<term>.loss`, `<term>.accuracy`, `<term>.anchors`...

        emb_BD, target_B: this rank's rows, not gathered. aux_BD: input of the terms that read auxiliary features.
        global_batch: rows of the whole optimizer step, over all ranks and all pieces it is accumulated from; without
        it, the rows of all ranks now. Summed over the pieces and averaged over the ranks, the loss, its gradients and
        the statistics are those of one process on the whole step (but pairs, and the images of a class whose sum a loss
        takes, are sought within a piece only).
        sample_weight_B: weights from 0, on all ranks or none; every mean becomes sum(w * loss) / sum(w), within a piece
        where a step has several.
        mixed: of images made of two: the other image's class ids (B,), and the share (B,) of `target_B`'s. Each then
        counts as two images of one class each, weighted by the shares, so that any head over classes can learn of them.
        Raises SpecError when a term reads auxiliary features and there are none.
        """
        if mixed is not None:
            other_B, share_B = mixed
            emb_BD, target_B = torch.cat([emb_BD, emb_BD]), torch.cat([target_B, other_B])
            aux_BD = None if aux_BD is None else torch.cat([aux_BD, aux_BD])
            shares = torch.cat([share_B, 1 - share_B])
            sample_weight_B = shares if sample_weight_B is None else shares * sample_weight_B.repeat(2)
            global_batch = None if global_batch is None else 2 * global_batch
        batch = self._batch(emb_BD, target_B, aux_BD, global_batch, sample_weight_B)
        total = emb_BD.new_zeros((), dtype=torch.float32)
        stats: Stats = {}
        for term in self.terms:
            assert isinstance(term, Term)
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
        if world > 1 and (global_batch is None or weight_B is not None or self.compares_rows):
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
            relation=self.relation,
        )

    @property
    def compares_rows(self) -> bool:
        """Whether a term must see all rows of a batch at once: then a batch is no sum of its pieces."""
        heads = [term.head for term in self.terms if isinstance(term, HeadTerm)]
        return len(heads) < len(self.terms) or any(head.whole_batch or head.follows_batches for head in heads)
