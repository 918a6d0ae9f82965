"""Focal loss over labels."""

import torch.nn.functional as F
from torch import Tensor

from kinsight.losses.label_head import LabelHead
from kinsight.losses.settings import require_like
from kinsight.specs import label_losses as specs


class Focal(LabelHead):
    """-alpha_t (1 - p_t)^gamma log p_t, p_t = p for positives and 1 - p for negatives. Lin et al. 2017, eq. 5.

    Biases start where p = 0.01 (section 4.1), so that the many negatives do not drown the first steps.

    gamma: 0 to 20; 0: plain cross-entropy. alpha: weight of positives, 1 - alpha that of negatives; None: both 1.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        seed: int = 0,
    ) -> None:
        require_like(specs.Focal, gamma=gamma, alpha=alpha)
        super().__init__(num_classes, embedding_dim, prior=0.01, seed=seed)
        self.gamma = gamma
        self.positive, self.negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def _label_losses(self, logits_BC: Tensor, target_BC: Tensor) -> Tensor:
        # -log p and -log(1 - p), of which also the powers are made: exact where p rounds to 0 or 1
        cost_BC, counter_BC = F.softplus(-logits_BC), F.softplus(logits_BC)
        positive_BC = self.positive * (-self.gamma * counter_BC).exp() * cost_BC
        negative_BC = self.negative * (-self.gamma * cost_BC).exp() * counter_BC
        return target_BC * positive_BC + (1 - target_BC) * negative_BC
