"""ArcFace: a margin added to the angle."""

import math
from functools import partial

from kinsight.losses.head import ClassHead, Margin
from kinsight.losses.margins import widened_angle
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class ArcFace(ClassHead):
    """Cross-entropy with own logit s cos(theta_y + m), others s cos(theta_j). Deng et al. 2019, eq. 3.

    Beyond theta_y = pi - m, where cos(theta + m) would rise again, the own logit is s (cos(theta_y) - m sin(m)).

    margin_deg: m in degrees, 0 to 90 (28.6 is the paper's 0.5 radians). scale: s.
    """

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin_deg: float = 28.6, scale: float = 64.0, seed: int = 0
    ) -> None:
        require_like(specs.ArcFace, margin_deg=margin_deg, scale=scale)
        super().__init__(num_classes, embedding_dim, scale=scale, margin=angle_margin(margin_deg), seed=seed)


def angle_margin(margin_deg: float) -> Margin:
    """ArcFace's margin."""
    return partial(widened_angle, margin_rad=math.radians(margin_deg))
