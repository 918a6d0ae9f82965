"""ProxyNCA++: each class a proxy, each image nearer to its own than to any other."""

from kinsight.losses.head import ClassHead
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class ProxyNCA(ClassHead):
    """-log softmax(-d^2 / T) of the own proxy among all, d the distance of unit rows. Teh et al. 2020, eq. 6.

    d^2 is 2 - 2 cos(theta), and what is equal for all proxies cancels: logit_j = 2 cos(theta_j) / T. The paper's other
    measures (larger batches per class, a higher rate for proxies, pooling) are settings of a training, not of a loss.

    temperature: T, above 0; smaller is sharper.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, temperature: float = 1 / 9, seed: int = 0) -> None:
        require_like(specs.ProxyNCA, temperature=temperature)
        super().__init__(num_classes, embedding_dim, scale=2 / temperature, seed=seed)
        self.temperature = temperature
