"""Binary cross-entropy over labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.losses.label_head import LabelHead


class Bce(LabelHead):
    """t w (-log p) + (1 - t) (-log(1 - p)), p = sigmoid(z); summed over labels, so torch's mean times C.

    positive_weight: w, one number or one a label (C,); above 0.
    """

    positive_weight: Tensor

    def __init__(
        self, num_classes: int, embedding_dim: int, *, positive_weight: float | Tensor = 1.0, seed: int = 0
    ) -> None:
        super().__init__(num_classes, embedding_dim, seed=seed)
        weight = torch.as_tensor(positive_weight, dtype=torch.float32)
        if weight.shape not in ((), (num_classes,)) or not bool((weight > 0).all() & weight.isfinite().all()):
            raise SpecError(
                "loss.positive-weight",
                f"{positive_weight!r}: expected a number above 0, or one for each of the {num_classes} labels",
                field="positive_weight",
            )
        self.register_buffer("positive_weight", weight, persistent=False)

    def _label_losses(self, logits_BC: Tensor, target_BC: Tensor) -> Tensor:
        positive_BC = target_BC * self.positive_weight * F.softplus(-logits_BC)
        return positive_BC + (1 - target_BC) * F.softplus(logits_BC)
