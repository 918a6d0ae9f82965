"""Heads that read an image's quality from the length of its embedding: AdaFace and MagFace."""

from torch import Tensor

from kinsight.losses.head import ClassHead, Everyone, Stats, alone
from kinsight.losses.numerics import row_lengths, weighted_mean


class LengthHead(ClassHead):
    """A head whose statistics also tell `length`, the mean length of the embeddings: what its settings refer to."""

    def forward(
        self, emb_BD: Tensor, target: Tensor, sample_weight_B: Tensor | None = None, *, everyone: Everyone = alone
    ) -> tuple[Tensor, Stats]:
        """See `ClassHead.forward`."""
        loss, stats = super().forward(emb_BD, target, sample_weight_B, everyone=everyone)
        return loss, stats | {"length": weighted_mean(row_lengths(emb_BD.detach()), sample_weight_B)}
