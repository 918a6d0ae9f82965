"""Plain and normalised softmax: cross-entropy over classes without a margin."""

from kinsight.errors import SpecError
from kinsight.losses.head import ClassHead


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
        super().__init__(num_classes, embedding_dim, scale=inverse_temperature(temperature), seed=seed)
        self.temperature = temperature


def inverse_temperature(temperature: float) -> float:
    """The factor that stands for a division by `temperature`. Raises SpecError unless it is above 0."""
    if not temperature > 0:
        raise SpecError("loss.temperature", f"{temperature}: expected above 0; 0.05 is usual", field="temperature")
    return 1.0 / temperature
