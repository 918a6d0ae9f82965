"""Large-Margin Softmax and SphereFace: the angle to the own class multiplied, lengths kept."""

from functools import partial

from kinsight.losses.head import ClassHead
from kinsight.losses.margins import multiplied_angle
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class LargeMarginSoftmax(ClassHead):
    """Cross-entropy with own logit s |W_y| |x| psi(theta_y), others s <x, W_j>. Liu et al. 2016, eq. 4 to 6.

    psi(theta) = (-1)^k cos(m theta) - 2k, k = floor(m theta / pi). The margin is whole from the start: no annealing.

    margin: m, a whole number from 1 (no margin). scale: s.
    """

    unit_embeddings = False
    unit_weights = False

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: int = 4, scale: float = 1.0, seed: int = 0
    ) -> None:
        require_like(specs.LargeMarginSoftmax, margin=margin, scale=scale)
        multiplied = partial(multiplied_angle, margin=margin)
        super().__init__(num_classes, embedding_dim, scale=scale, margin=multiplied, seed=seed)


class SphereFace(LargeMarginSoftmax):
    """Large-Margin Softmax with class weights at unit length. Liu et al. 2017, eq. 7."""

    unit_weights = True
