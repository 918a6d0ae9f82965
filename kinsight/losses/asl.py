"""Asymmetric loss over labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kinsight.losses.label_head import LabelHead
from kinsight.losses.settings import require_like
from kinsight.specs import label_losses as specs


class Asl(LabelHead):
    """Positives -(1 - p)^g+ log p, negatives -q^g- log(1 - q), q = max(p - clip, 0). Ridnik et al. 2021, eq. 6 and 7.

    The powers take part in the gradient, as in the paper; the authors' code can leave them out.

    gamma_positive, gamma_negative: g+, g-, 0 to 20. clip: the paper's m, 0 to below 1; 0: nothing is dropped.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        gamma_positive: float = 0.0,
        gamma_negative: float = 4.0,
        clip: float = 0.05,
        seed: int = 0,
    ) -> None:
        require_like(specs.Asl, gamma_positive=gamma_positive, gamma_negative=gamma_negative, clip=clip)
        super().__init__(num_classes, embedding_dim, seed=seed)
        self.gamma_positive, self.gamma_negative, self.clip = gamma_positive, gamma_negative, clip

    def _label_losses(self, logits_BC: Tensor, target_BC: Tensor) -> Tensor:
        cost_BC, counter_BC = F.softplus(-logits_BC), F.softplus(logits_BC)  # -log p, -log(1 - p)
        positive_BC = (-self.gamma_positive * counter_BC).exp() * cost_BC
        if self.clip == 0:
            negative_BC = (-self.gamma_negative * cost_BC).exp() * counter_BC
        else:
            negative_BC = self._shifted(logits_BC.sigmoid())
        return target_BC * positive_BC + (1 - target_BC) * negative_BC

    def _shifted(self, p_BC: Tensor) -> Tensor:
        counts_BC = p_BC > self.clip
        # Another number where nothing counts: the power's slope at 0 is infinite below exponent 1.
        q_BC = torch.where(counts_BC, p_BC - self.clip, 0.5)
        return torch.where(counts_BC, q_BC**self.gamma_negative * -torch.log1p(-q_BC), 0)
