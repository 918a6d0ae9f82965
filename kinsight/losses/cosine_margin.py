"""AM-Softmax and CosFace: one formula, two habits of scale and margin."""

from functools import partial

from kinsight.losses.head import ClassHead
from kinsight.losses.margins import lowered_cosine
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class AMSoftmax(ClassHead):
    """Cross-entropy with own logit s (cos(theta_y) - m), others s cos(theta_j). Wang et al. 2018, eq. 6.

    margin: m, subtracted from the cosine, 0 to 1. scale: s.
    """

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.4, scale: float = 30.0, seed: int = 0
    ) -> None:
        require_like(specs.AMSoftmax, margin=margin, scale=scale)
        lowered = partial(lowered_cosine, margin=margin)
        super().__init__(num_classes, embedding_dim, scale=scale, margin=lowered, seed=seed)


class CosFace(AMSoftmax):
    """AM-Softmax with the settings usual for faces. Wang et al. 2018 (CosFace), eq. 4."""

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.35, scale: float = 64.0, seed: int = 0
    ) -> None:
        super().__init__(num_classes, embedding_dim, margin=margin, scale=scale, seed=seed)
