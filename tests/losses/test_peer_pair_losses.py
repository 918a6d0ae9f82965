"""Losses over pairs and pytorch-metric-learning's: the same values and gradients where both compute the same."""

from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning import losses as peers
from pytorch_metric_learning import miners as peer_miners
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from kinsight import losses
from kinsight.losses import Miner, PairLoss

Peer = Callable[[Tensor, Tensor], Tensor]
CASES: dict[str, tuple[PairLoss, Peer, Miner | None]] = {
    "contrastive": (losses.Contrastive(0.2, 1.2), peers.ContrastiveLoss(0.2, 1.2), None),
    "triplet": (losses.Triplet(0.1, "euclidean"), peers.TripletMarginLoss(0.1), None),
    "triplet-squared": (
        losses.Triplet(0.1, mean_over="all"),
        peers.TripletMarginLoss(0.1, distance=LpDistance(power=2), reducer=MeanReducer()),
        None,
    ),
    "multi-similarity": (losses.MultiSimilarity(2, 50, 0.5), peers.MultiSimilarityLoss(2, 50, 0.5), None),
    "circle": (losses.Circle(0.4, 80), peers.CircleLoss(0.4, 80), None),
    "info-nce": (losses.InfoNCE(0.07), peers.NTXentLoss(0.07), None),
    "supcon": (losses.SupCon(0.1), peers.SupConLoss(0.1), None),
    "fast-ap": (losses.FastAP(10), peers.FastAPLoss(10), None),
}


def _mined(loss: Peer, miner: Callable[..., tuple[Tensor, ...]]) -> Peer:
    return lambda emb_BD, label_B: loss(emb_BD, label_B, miner(emb_BD, label_B))  # type: ignore[call-arg]


CASES["triplet-hard"] = (
    losses.Triplet(0.3, "euclidean"),
    _mined(peers.TripletMarginLoss(0.3), peer_miners.BatchHardMiner()),
    losses.HardPairs(),
)
CASES["contrastive-multi-similarity"] = (
    losses.Contrastive(0.2, 1.2),
    _mined(peers.ContrastiveLoss(0.2, 1.2), peer_miners.MultiSimilarityMiner(0.1)),
    losses.MultiSimilarityPairs(0.1),
)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("classes", [3, 20])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_peer(name: str, classes: int, dtype: torch.dtype) -> None:
    loss, peer, miner = CASES[name]
    generator = torch.Generator().manual_seed(classes)
    centre_CD = torch.randn(classes, 16, generator=generator, dtype=torch.float64)
    label_B = torch.arange(60) % classes
    emb_BD = centre_CD[label_B] + 0.8 * torch.randn(60, 16, generator=generator, dtype=torch.float64)
    values, grads = [], []
    for side in (lambda emb: loss(emb, label_B, miner=miner), lambda emb: peer(emb, label_B)):
        leaf_BD = emb_BD.to(dtype).requires_grad_()
        value = side(leaf_BD)
        (grad_BD,) = torch.autograd.grad(value, leaf_BD)
        values.append(value.detach())
        grads.append(grad_BD)
    tolerance = TOLERANCE[dtype]
    assert values[1] > 0
    torch.testing.assert_close(values[0], values[1], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(grads[0], grads[1], rtol=tolerance, atol=tolerance * float(grads[1].abs().max()))
