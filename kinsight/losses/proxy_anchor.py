"""ProxyAnchor: each class a proxy, which pulls and pushes the images of a batch, the hard ones more."""

from typing import ClassVar

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.losses.head import ClassHead, Everyone, Stats, alone
from kinsight.losses.numerics import nonzero, weighted_mean, without_autocast
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs

# The logarithm of nothing: finite, so that no gradient becomes inf - inf.
_NOTHING = -1e30


class ProxyAnchor(ClassHead):
    """Soft maxima over the batch of each class's positives and negatives. Kim et al. 2020, eq. 4.

    mean over classes p that are in the batch of log(1 + sum_{x of p} e^{-alpha (cos(x, p) - margin)})
    + mean over all classes p of log(1 + sum_{x not of p} e^{alpha (cos(x, p) + margin)}).

    The sums run over the rows of all processes: each adds up its own, then they exchange two numbers a class. An image
    of weight w counts as w copies of it. A target may hold several labels an image.

    margin: 0 to 1. alpha: above 0; larger looks at the hardest images alone.
    """

    whole_batch: ClassVar[bool] = True

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.1, alpha: float = 32.0, seed: int = 0
    ) -> None:
        require_like(specs.ProxyAnchor, margin=margin, alpha=alpha)
        super().__init__(num_classes, embedding_dim, scale=alpha, seed=seed)
        self.lead = alpha * margin

    def forward(
        self, emb_BD: Tensor, target: Tensor, sample_weight_B: Tensor | None = None, *, everyone: Everyone = alone
    ) -> tuple[Tensor, Stats]:
        """The loss of the whole batch, and of the local rows `accuracy`: the largest cosine is with a class of theirs.

        emb_BD: any floating dtype. target: int64 class ids (B,), or (B, L) padded with -1; an image without any is a
        negative of all classes, and a miss. sample_weight_B: weights from 0. everyone: see `ClassHead.forward`.
        Raises DataError on other labels, SpecError on embeddings of another length.
        """
        label_BL = self._labels(emb_BD, target)
        with without_autocast(emb_BD):
            logits_BC = self._factors(emb_BD).logits()
            positive_BC = self._positives(label_BL)
            sums_R2C = everyone(self._log_sums(logits_BC, positive_BC, sample_weight_B))
            positive_C, negative_C = torch.logsumexp(sums_R2C, dim=0)
            nothing_C = torch.zeros_like(positive_C)
            present = nonzero((positive_C > _NOTHING / 2).sum())
            loss = (
                torch.logaddexp(positive_C, nothing_C).sum() / present + torch.logaddexp(negative_C, nothing_C).mean()
            )
            best_B = logits_BC.detach().masked_fill(~positive_BC, -torch.inf).amax(1)
            hit_B = (best_B >= logits_BC.detach().amax(1)).to(loss.dtype)
        return loss, {"accuracy": weighted_mean(hit_B, sample_weight_B)}

    def _log_sums(self, logits_BC: Tensor, positive_BC: Tensor, sample_weight_B: Tensor | None) -> Tensor:
        """Logarithms of each class's two sums over the local rows: (2, C)."""
        push_BC, pull_BC = logits_BC + self.lead, self.lead - logits_BC
        if sample_weight_B is not None:
            weight_B = sample_weight_B.to(logits_BC.dtype)
            copies_B1 = torch.where(weight_B > 0, torch.where(weight_B > 0, weight_B, 1).log(), _NOTHING)[:, None]
            push_BC, pull_BC = push_BC + copies_B1, pull_BC + copies_B1
        sums_2C = torch.stack(
            [
                torch.logsumexp(pull_BC.masked_fill(~positive_BC, _NOTHING), dim=0),
                torch.logsumexp(push_BC.masked_fill(positive_BC, _NOTHING), dim=0),
            ]
        )
        return sums_2C.clamp_min(_NOTHING)  # a process without rows: -inf otherwise

    def _positives(self, label_BL: Tensor) -> Tensor:
        """Whether an image is of a class: bool (B, C)."""
        column_BL = torch.where(label_BL < 0, self.num_classes, label_BL)
        of_BC = torch.zeros(len(label_BL), self.num_classes + 1, dtype=torch.bool, device=label_BL.device)
        return of_BC.scatter_(1, column_BL, True)[:, : self.num_classes]

    def _labels(self, emb_BD: Tensor, target: Tensor) -> Tensor:
        if target.dim() != 2:
            return super()._labels(emb_BD, target)[:, None]
        if target.dtype != torch.int64 or len(target) != len(emb_BD):
            raise DataError(
                "loss.labels",
                f"labels of dtype {target.dtype} and shape {tuple(target.shape)}: "
                f"expected int64 and ({len(emb_BD)},) or ({len(emb_BD)}, L)",
                remedy="pass the class ids of each image in a row, padded with -1",
            )
        if target.device.type == "cpu" and target.numel() and int(target.min()) < -1:
            raise DataError(
                "loss.label-range",
                f"label {int(target.min())}: expected 0 to {self.num_classes - 1}, or -1 for none",
                remedy="number the classes from 0 without gaps, and pad with -1",
            )
        self._check_range(target.clamp_min(0))
        return target
