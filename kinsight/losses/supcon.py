"""Supervised contrastive loss."""

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.losses.numerics import nonzero, unit_rows, wide_dtype, without_autocast
from kinsight.losses.softmax import inverse_temperature


def supcon(
    emb_BD: Tensor, label_B: Tensor, *, temperature: float = 0.1, sample_weight_B: Tensor | None = None
) -> Tensor:
    """Mean supervised contrastive loss over the anchors that have a positive; scalar, in nats.

    Per anchor i: mean over its positives p of -log(exp(s_ip / T) / sum_{a != i} exp(s_ia / T)), s the cosine.
    Khosla et al. 2020, eq. 2 (the sum outside the logarithm). Memory: B x B.

    emb_BD: any lengths, normalised here. label_B: int64 class ids. temperature: T, above 0.
    sample_weight_B: weights of the anchors, sum(w * loss) / sum(w).
    Without any positive pair the loss is 0 with zero gradients, still connected to the graph.
    Raises DataError unless labels are int64, one per row.
    """
    loss_B, has_positive_B = supcon_anchors(emb_BD, label_B, emb_BD, label_B, temperature=temperature)
    weight_B = has_positive_B.to(loss_B.dtype)
    if sample_weight_B is not None:
        weight_B = weight_B * sample_weight_B
    return (loss_B * weight_B).sum() / nonzero(weight_B.sum())


def supcon_anchors(
    anchor_AD: Tensor, anchor_label_A: Tensor, emb_BD: Tensor, label_B: Tensor, *, temperature: float, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Loss of each anchor against all embeddings, 0 where it has no positive, and whether it has one.

    first: the anchors are rows first..first+A-1 of emb_BD; nothing is compared with itself. Memory: A x B.
    """
    for emb, label in ((anchor_AD, anchor_label_A), (emb_BD, label_B)):
        if label.dtype != torch.int64 or label.shape != emb.shape[:1]:
            raise DataError(
                "loss.labels",
                f"labels of dtype {label.dtype} and shape {tuple(label.shape)}: expected int64 and ({emb.shape[0]},)",
                remedy="pass one class id per embedding",
            )
    dtype = wide_dtype(anchor_AD, emb_BD)
    with without_autocast(emb_BD):
        anchor_AD = unit_rows(anchor_AD.to(dtype)) * inverse_temperature(temperature)
        score_AB = anchor_AD @ unit_rows(emb_BD.to(dtype)).T
        row_A1 = torch.arange(first, first + anchor_AD.shape[0], device=emb_BD.device)[:, None]
        self_AB = row_A1 == torch.arange(emb_BD.shape[0], device=emb_BD.device)
        positive_AB = (anchor_label_A[:, None] == label_B) & ~self_AB
        num_positive_A = positive_AB.sum(1)
        # The lowest finite number instead of -inf: an anchor alone in its batch must not make nan gradients.
        total_A = score_AB.masked_fill(self_AB, torch.finfo(dtype).min).logsumexp(1)
        attracted_A = score_AB.masked_fill(~positive_AB, 0).sum(1) / num_positive_A.clamp_min(1)
        has_positive_A = num_positive_A > 0
        return torch.where(has_positive_A, total_A - attracted_A, 0), has_positive_A
