"""Label-smoothed cross-entropy, the usual companion of a margin loss."""

from torch import Tensor

from kinsight.losses.head import ClassHead, Factors, Margin, class_cross_entropy
from kinsight.losses.settings import require_like
from kinsight.specs.loss_base import CrossEntropyTerm


class SmoothedCrossEntropy(ClassHead):
    """(1 - e) (-log p_y) + e / (C - 1) sum_{j != y} (-log p_j), with p = softmax(<x / |x|, W_j> / temperature).

    The class weights are a linear layer of its own, without bias and not normalised. The spared share e goes to the
    other classes only, unlike Szegedy et al. 2016, section 7, where the own class keeps e / C of it.

    temperature: above 0. smoothing: e, from 0 to below 1.
    """

    unit_weights = False

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        temperature: float = 0.05,
        smoothing: float = 0.1,
        seed: int = 0,
    ) -> None:
        require_like(CrossEntropyTerm, temperature=temperature, smoothing=smoothing)
        super().__init__(num_classes, embedding_dim, scale=1 / temperature, seed=seed, uniform=True)
        self.temperature, self.smoothing = temperature, smoothing

    def _sample_losses(self, factors: Factors, label_B: Tensor, margin: Margin | None) -> tuple[Tensor, Tensor]:
        nll_B, own_B, hit_B = class_cross_entropy(factors, label_B)
        # -log p_j = nll + own - logit_j, and the sum of a row of logits is one product with the summed class weights.
        mean_other_B = (factors.x @ factors.rows.sum(0) - own_B) / (self.num_classes - 1)
        return nll_B + self.smoothing * (own_B - mean_other_B), hit_B
