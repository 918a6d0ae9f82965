"""Plain and normalised softmax: cross-entropy over classes without a margin."""

from kinsight.losses.head import ClassHead
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class Softmax(ClassHead):
    """Cross-entropy over a linear layer with bias: logit_j = <x, W_j> + b_j, nothing normalised.

    Weights start from U(-1/sqrt(D), 1/sqrt(D)), biases from 0.
    """

    unit_embeddings = False
    unit_weights = False

    def __init__(self, num_classes: int, embedding_dim: int, *, seed: int = 0) -> None:
        super().__init__(num_classes, embedding_dim, scale=1.0, seed=seed, bias=True, uniform=True)


class NormalizedSoftmax(ClassHead):
    """Cross-entropy over cosines: logit_j = cos(theta_j) / temperature. Zhai & Wu 2019.

    temperature: above 0; smaller is sharper.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, temperature: float = 0.05, seed: int = 0) -> None:
        require_like(specs.NormalizedSoftmax, temperature=temperature)
        super().__init__(num_classes, embedding_dim, scale=1 / temperature, seed=seed)
        self.temperature = temperature
