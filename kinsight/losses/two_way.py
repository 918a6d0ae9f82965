"""Two-way multi-label loss: positive logits against negative ones, within an image and within a label."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kinsight.losses.head import Everyone
from kinsight.losses.label_head import LabelHead
from kinsight.losses.numerics import nonzero
from kinsight.losses.settings import require_like
from kinsight.specs import label_losses as specs

# The logarithm of nothing: finite, so that no gradient becomes inf - inf.
_NOTHING = -1e30


class TwoWay(LabelHead):
    """softplus(Tn log sum_n e^(z_n / Tn) + Tp log sum_p e^(-z_p / Tp)). Kobayashi 2023.

    n and p: the negatives and positives of an image, meant over the images that have a positive; plus the same with the
    images of a label, meant over the labels that have a positive in the batch. The latter sums run over the rows of
    all processes: each adds up its own, then they exchange two numbers a label.
    An image of weight w counts as w copies of it, a target t as t positives and 1 - t negatives.

    positive_temperature: Tp. negative_temperature: Tn. Both above 0, to 10.
    """

    whole_batch: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        positive_temperature: float = 4.0,
        negative_temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        temperatures = {"positive_temperature": positive_temperature, "negative_temperature": negative_temperature}
        require_like(specs.TwoWay, **temperatures)
        super().__init__(num_classes, embedding_dim, seed=seed)
        self.positive_temperature, self.negative_temperature = positive_temperature, negative_temperature

    def _mean_loss(
        self,
        logits_BC: Tensor,
        target_BC: Tensor,
        known_BC: Tensor,
        sample_weight_B: Tensor | None,
        everyone: Everyone,
    ) -> Tensor:
        pull_BC = _log_copies(torch.where(known_BC, target_BC, 0)) - logits_BC / self.positive_temperature
        push_BC = _log_copies(torch.where(known_BC, 1 - target_BC, 0)) + logits_BC / self.negative_temperature
        image_2 = self._over_images(pull_BC, push_BC, known_BC & (target_BC > 0), sample_weight_B)
        if sample_weight_B is not None:
            copies_B1 = _log_copies(sample_weight_B.to(logits_BC.dtype))[:, None]
            pull_BC, push_BC = pull_BC + copies_B1, push_BC + copies_B1
        label_2C = torch.stack([torch.logsumexp(pull_BC, dim=0), torch.logsumexp(push_BC, dim=0)])
        label_2C = label_2C.clamp_min(_NOTHING)  # a process without rows: -inf otherwise
        parts = everyone(torch.cat([label_2C.flatten(), image_2]))
        positive_C, negative_C = torch.logsumexp(parts[:, :-2].unflatten(1, (2, -1)), dim=0)
        total, images = parts[:, -2:].sum(0)
        seen_C = positive_C > _NOTHING / 2
        return total / nonzero(images) + self._compared(positive_C, negative_C)[seen_C].sum() / nonzero(seen_C.sum())

    def _over_images(
        self, pull_BC: Tensor, push_BC: Tensor, positive_BC: Tensor, sample_weight_B: Tensor | None
    ) -> Tensor:
        """Sum of the images' losses, and their number: (2,)."""
        weight_B = positive_BC.any(1).to(pull_BC.dtype)
        if sample_weight_B is not None:
            weight_B = weight_B * sample_weight_B.to(pull_BC.dtype)
        loss_B = self._compared(torch.logsumexp(pull_BC, dim=1), torch.logsumexp(push_BC, dim=1))
        return torch.stack([(loss_B * weight_B).sum(), weight_B.sum()])

    def _compared(self, positive: Tensor, negative: Tensor) -> Tensor:
        both = self.negative_temperature * negative.clamp_min(_NOTHING)
        return F.softplus(both + self.positive_temperature * positive.clamp_min(_NOTHING))


def _log_copies(count: Tensor) -> Tensor:
    return torch.where(count > 0, torch.where(count > 0, count, 1).log(), _NOTHING)
