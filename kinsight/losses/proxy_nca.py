"""ProxyNCA++: each class a proxy, each image nearer to its own than to any other."""

from kinsight.losses.head import ClassHead
from kinsight.losses.softmax import inverse_temperature


class ProxyNCA(ClassHead):
    """-log softmax(-d^2 / T) of the own proxy among all, d the distance of unit rows. Teh et al. 2020, eq. 6.

    d^2 is 2 - 2 cos(theta), and what is equal for all proxies cancels: logit_j = 2 cos(theta_j) / T. The paper's other
    measures (larger batches per class, a higher rate for proxies, pooling) are settings of a training, not of a loss.

    temperature: T, above 0; smaller is sharper.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, temperature: float = 1 / 9, seed: int = 0) -> None:
        super().__init__(num_classes, embedding_dim, scale=2 * inverse_temperature(temperature), seed=seed)
        self.temperature = temperature
