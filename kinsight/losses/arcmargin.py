"""Arcmargin: ArcFace as PaddlePaddle computes it."""

import math
from functools import partial

import torch

from kinsight.losses.head import ClassHead
from kinsight.losses.margins import arc_margin
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class ArcMargin(ClassHead):
    """Cross-entropy with own logit s phi(theta_y), others s cos(theta_j). PaddlePaddle 1.8, metric learning.

    phi = c cos(m) - sqrt(1 - c^2 + 1e-6) sin(m), c = cos(theta), where c > cos(pi - m), else c - m sin(pi - m); with
    easy_margin it is phi where c > 0, else c. Class weights start from U(-a, a) with a^2 = 6 / (C + D) (Xavier).

    margin_rad: m in radians, 0 to pi/2. scale: s. The statistic `accuracy` is that of logits without margin, where
    PaddlePaddle shows that of logits with it.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        margin_rad: float = 0.15,
        scale: float = 80.0,
        easy_margin: bool = False,
        seed: int = 0,
    ) -> None:
        require_like(specs.ArcMargin, margin_rad=margin_rad, scale=scale, easy_margin=easy_margin)
        margin = partial(arc_margin, margin_rad=margin_rad, easy=easy_margin)
        super().__init__(num_classes, embedding_dim, scale=scale, margin=margin, seed=seed, uniform=True)
        with torch.no_grad():
            self.weight_CD *= math.sqrt(6 * embedding_dim / (num_classes + embedding_dim))
