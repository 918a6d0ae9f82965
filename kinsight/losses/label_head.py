"""What losses over many labels an image share: a linear classifier with bias, and labels of which nobody knows."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinsight.errors import DataError, SpecError
from kinsight.losses.head import Everyone, LinearForm, Stats, alone
from kinsight.losses.numerics import class_rows, nonzero, weighted_mean, wide_dtype, without_autocast


class LabelHead(nn.Module):
    """One logit a label, z_c = <x, W_c> + b_c, and a loss for each; the base of every loss over labels.

    An image's loss is the sum over its known labels, times all labels / known ones: images of which little is known
    count like the others (Durand et al. 2019, section 3.2, with their g(p) = 1 / p). Between 0 and 1 a target is a
    mixture: t times the loss of a positive and 1 - t times that of a negative.

    prior: probability of every label at first, by its bias. shift_C: added to the logits in the loss, not in `logits`.
    loss_weight_C: factors of the labels' losses; both None or (C,), and no part of the state.
    weight_CD start from U(-1/sqrt(D), 1/sqrt(D)), equal for equal `seed`.
    """

    whole_batch: ClassVar[bool] = False
    follows_batches: ClassVar[bool] = False
    shift_C: Tensor | None
    loss_weight_C: Tensor | None

    def __init__(self, num_classes: int, embedding_dim: int, *, prior: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if num_classes < 1 or embedding_dim < 1:
            raise SpecError("loss.num-classes", f"{num_classes} labels of {embedding_dim} numbers: expected 1 and more")
        self.num_classes, self.embedding_dim = num_classes, embedding_dim
        self.weight_CD = nn.Parameter(class_rows(0, num_classes, embedding_dim, seed=seed, uniform=True))
        self.bias_C = nn.Parameter(torch.logit(torch.full((num_classes,), prior)))
        self.register_buffer("shift_C", None, persistent=False)
        self.register_buffer("loss_weight_C", None, persistent=False)

    def forward(
        self, emb_BD: Tensor, target: Tensor, sample_weight_B: Tensor | None = None, *, everyone: Everyone = alone
    ) -> tuple[Tensor, Stats]:
        """Mean loss over the images in nats, sum(w * loss) / sum(w) when weighted, and detached 0-d statistics.

        emb_BD: any floating dtype. target: (B, C), 0 to 1, or -1 where nobody knows. everyone: for losses of a whole
        batch; see `ClassHead.forward`.
        stats: `accuracy`, the mean over images of the share of known labels on the right side of logit 0.
        Raises DataError on other targets (their values: on the CPU only), SpecError on embeddings of another length.
        """
        target_BC = self._targets(emb_BD, target)
        known_BC = target_BC >= 0
        with without_autocast(emb_BD):
            logits_BC = self.logits(emb_BD)
            shifted_BC = logits_BC if self.shift_C is None else logits_BC + self.shift_C
            loss = self._mean_loss(shifted_BC, target_BC.clamp_min(0), known_BC, sample_weight_B, everyone)
            right_BC = ((logits_BC.detach() > 0) == (target_BC >= 0.5)) & known_BC
            right_B = right_BC.sum(1) / known_BC.sum(1).clamp_min(1)
            accuracy = weighted_mean(right_B.to(logits_BC.dtype), sample_weight_B)
        return loss, {"accuracy": accuracy}

    def logits(self, emb_BD: Tensor) -> Tensor:
        """Scores (B, C) to predict from, float32 or wider."""
        if emb_BD.dim() != 2 or emb_BD.shape[1] != self.embedding_dim:
            raise SpecError(
                "loss.embedding-dim",
                f"embeddings of shape {tuple(emb_BD.shape)}: expected (batch, {self.embedding_dim})",
                remedy="build the head with the embedding length of the model",
            )
        dtype = wide_dtype(emb_BD, self.weight_CD)
        with without_autocast(emb_BD):
            return F.linear(emb_BD.to(dtype), self.weight_CD.to(dtype), self.bias_C.to(dtype))

    @torch.no_grad()
    def linear(self) -> LinearForm:
        """What `logits` computes, for those who keep it."""
        return LinearForm(self.weight_CD.detach(), self.bias_C.detach(), unit=False)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, embedding_dim={self.embedding_dim}"

    def _label_losses(self, logits_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Each label's loss (B, C); target_BC from 0 to 1. Of losses that are a sum over labels: others have a
        `_mean_loss` of their own.
        """
        raise NotImplementedError(f"{type(self).__name__} is no sum over labels")

    def _mean_loss(
        self,
        logits_BC: Tensor,
        target_BC: Tensor,
        known_BC: Tensor,
        sample_weight_B: Tensor | None,
        everyone: Everyone,
    ) -> Tensor:
        loss_BC = self._label_losses(logits_BC, target_BC)
        if self.loss_weight_C is not None:
            loss_BC = loss_BC * self.loss_weight_C
        loss_B = torch.where(known_BC, loss_BC, 0).sum(1)
        loss_B = loss_B * (self.num_classes / nonzero(known_BC.sum(1).to(loss_B.dtype)))
        return weighted_mean(loss_B, sample_weight_B)

    def _targets(self, emb_BD: Tensor, target: Tensor) -> Tensor:
        expected = (len(emb_BD), self.num_classes)
        if target.shape != expected:
            raise DataError(
                "loss.labels",
                f"targets of shape {tuple(target.shape)}: expected {expected}",
                remedy="pass a row for each embedding with 1, 0, or -1 (unknown) for each label",
            )
        target_BC = target.to(wide_dtype(emb_BD, self.weight_CD))
        if target.device.type == "cpu" and target.numel():
            odd_BC = ~((target_BC == -1) | ((target_BC >= 0) & (target_BC <= 1)))
            if bool(odd_BC.any()):
                raise DataError(
                    "loss.label-range",
                    f"target {target_BC[odd_BC][0].item():g}: expected 0 to 1, or -1 for unknown",
                    remedy="mark labels of which nobody knows by -1",
                )
        return target_BC
