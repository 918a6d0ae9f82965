"""Plain and normalised softmax: cross-entropy over classes without a margin."""

from torch import Tensor

from kinsight.losses.head import ClassHead, Factors, Margin, class_cross_entropy
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class Softmax(ClassHead):
    """Cross-entropy over a linear layer with bias: logit_j = <x, W_j> + b_j, nothing normalised.

    Weights start from U(-1/sqrt(D), 1/sqrt(D)), biases from 0.

    smoothing: share e of the target spread evenly over all classes, the own one with them; 0 to below 1. Szegedy et al.
    2016, section 7.
    """

    unit_embeddings = False
    unit_weights = False

    def __init__(self, num_classes: int, embedding_dim: int, *, smoothing: float = 0.0, seed: int = 0) -> None:
        require_like(specs.Softmax, smoothing=smoothing)
        super().__init__(num_classes, embedding_dim, scale=1.0, seed=seed, bias=True, uniform=True)
        self.smoothing = smoothing

    def _sample_losses(self, factors: Factors, label_B: Tensor, margin: Margin | None) -> tuple[Tensor, Tensor]:
        nll_B, own_B, hit_B = class_cross_entropy(factors, label_B)
        if self.smoothing == 0:
            return nll_B, hit_B
        # -log p_j = nll + own - logit_j, and the mean of a row of logits is one product with the mean class weights.
        mean_B = factors.x @ factors.rows.mean(0)
        if factors.bias is not None:
            mean_B = mean_B + factors.bias.mean()
        return nll_B + self.smoothing * (own_B - mean_B), hit_B


class NormalizedSoftmax(ClassHead):
    """Cross-entropy over cosines: logit_j = cos(theta_j) / temperature. Zhai & Wu 2019.

    temperature: above 0; smaller is sharper.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, temperature: float = 0.05, seed: int = 0) -> None:
        require_like(specs.NormalizedSoftmax, temperature=temperature)
        super().__init__(num_classes, embedding_dim, scale=1 / temperature, seed=seed)
        self.temperature = temperature
