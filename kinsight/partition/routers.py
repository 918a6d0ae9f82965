"""What chooses the lists a query looks into: a linear map, with a network added if wished.

Shapes: Q queries, L lists, D dimensions, K neighbours, C copies of a neighbour at most.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinsight.partition.clusters import Clusters


class Router(nn.Module):
    """Scores of lists: the log of the share of a query's neighbours that each holds, up to a constant of the query.

    weight: (L, D). bias: (L,). network: takes (Q, D), gives what is added to the scores, (Q, L); None: nothing.
    """

    def __init__(self, weight_LD: Tensor, bias_L: Tensor, network: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_LD)
        self.bias = nn.Parameter(bias_L)
        self.network = network

    def forward(self, query_QD: Tensor) -> Tensor:
        """Scores, (Q, L)."""
        score_QL = torch.addmm(self.bias, query_QD, self.weight.T)
        return score_QL if self.network is None else score_QL + self.network(query_QD)

    @property
    def multiply_adds(self) -> int:
        """Of one query."""
        layers = (
            [] if self.network is None else [each for each in self.network.modules() if isinstance(each, nn.Linear)]
        )
        return self.weight.numel() + sum(layer.weight.numel() for layer in layers)


def from_clusters(clusters: Clusters, scale: float, hidden: Sequence[int] = (), dropout: float = 0.0) -> Router:
    """A router that ranks lists as k-means does, by squared distance and price; scores grow with `scale`."""
    weight_LD, bias_L = scale * clusters.centre_LD, -scale * clusters.offset_L
    return Router(weight_LD, bias_L, mlp(weight_LD.shape[1], hidden, len(bias_L), dropout) if hidden else None)


def mlp(inputs: int, hidden: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Linear layers with ReLU, batch normalisation and dropout between; the last one begins at zero."""
    layers: list[nn.Module] = []
    for width in hidden:
        # dropout of nothing, too, has its place: weights are kept by the numbers of layers
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    last = nn.Linear(inputs, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def routing_loss(score_QL: Tensor, list_QKC: Tensor) -> Tensor:
    """Cross-entropy to the share of neighbours in each list; a neighbour in several lists counts in equal parts.

    list_QKC: int64, lists of each of a query's neighbours, -1: none. Scalar, mean over the queries.
    """
    there_QKC = list_QKC >= 0
    weight_QKC = there_QKC / there_QKC.sum(2, keepdim=True).clamp_min(1)
    log_QL = score_QL.float().log_softmax(1)
    log_QT = log_QL.gather(1, list_QKC.clamp_min(0).flatten(1))
    return -(log_QT * weight_QKC.flatten(1)).sum(1).mean() / list_QKC.shape[1]


def best_scale(clusters: Clusters, query_QD: Tensor, list_QKC: Tensor) -> float:
    """The scale at which distances alone explain best where neighbours are, among powers of the square root of 2."""
    distance_QL = 2 * (clusters.offset_L - query_QD @ clusters.centre_LD.T)
    spread = distance_QL.std(1).mean().clamp_min(1e-30)
    scales = [2.0 ** (step / 2) / float(spread) for step in range(-4, 21)]
    losses = [routing_loss(-scale / 2 * distance_QL, list_QKC) for scale in scales]
    return scales[int(torch.stack(losses).argmin())]
