"""The same losses and gradients as pytorch-metric-learning, at equal class weights."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kinsight import losses

pml = pytest.importorskip("pytorch_metric_learning.losses", reason="the peer library is not installed")

# The peer's own use of an older numpy interface.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

CLASSES, DIM, BATCH = 12, 16, 40
PAIRS: dict[str, tuple[Any, Any]] = {
    "arcface": (losses.ArcFace, pml.ArcFaceLoss),
    "cosface": (losses.CosFace, pml.CosFaceLoss),
    "large-margin-softmax": (losses.LargeMarginSoftmax, pml.LargeMarginSoftmaxLoss),
    "sphereface": (losses.SphereFace, pml.SphereFaceLoss),
    "normalized-softmax": (losses.NormalizedSoftmax, pml.NormalizedSoftmaxLoss),
}
# With the name of the peer's weights; those of (D, rows) are turned.
PROXIES: dict[str, tuple[Any, Any, str]] = {
    "proxy-nca": (
        lambda: losses.ProxyNCA(CLASSES, DIM, temperature=1 / 9),
        lambda: pml.ProxyNCALoss(CLASSES, DIM, softmax_scale=9),
        "proxies",
    ),
    "proxy-anchor": (
        lambda: losses.ProxyAnchor(CLASSES, DIM),
        lambda: pml.ProxyAnchorLoss(CLASSES, DIM, margin=0.1, alpha=32),
        "proxies",
    ),
    # The peer has no pull between the centres.
    "soft-triple": (
        lambda: losses.SoftTriple(CLASSES, DIM, tau=0),
        lambda: pml.SoftTripleLoss(CLASSES, DIM, centers_per_class=10, la=20, gamma=0.1, margin=0.01),
        "fc",
    ),
    "sub-center-arcface": (
        lambda: losses.SubCenterArcFace(CLASSES, DIM),
        lambda: pml.SubCenterArcFaceLoss(num_classes=CLASSES, embedding_size=DIM, margin=28.6, scale=64, sub_centers=3),
        "W",
    ),
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.float16: 0.05, torch.bfloat16: 0.3}


def _batch(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    emb_BD = torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)
    return emb_BD.to(dtype).requires_grad_(), torch.randint(CLASSES, (BATCH,), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PAIRS)
def test_heads(name: str, dtype: torch.dtype) -> None:
    ours, theirs = PAIRS[name][0](CLASSES, DIM).to(dtype), PAIRS[name][1](CLASSES, DIM)
    theirs.W.data = ours.weight_CD.detach().T.clone()
    emb_BD, label_B = _batch(dtype)
    loss, _ = ours(emb_BD, label_B)
    loss.backward()
    peer_emb_BD, _ = _batch(dtype)
    peer_loss = theirs(peer_emb_BD, label_B)
    peer_loss.backward()
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(loss, peer_loss, **tolerance)
    torch.testing.assert_close(emb_BD.grad, peer_emb_BD.grad, **tolerance)
    torch.testing.assert_close(ours.weight_CD.grad, theirs.W.grad.T, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PROXIES)
def test_proxies_and_centres(name: str, dtype: torch.dtype) -> None:
    build, build_peer, weights = PROXIES[name]
    ours, theirs = build().to(dtype), build_peer()
    rows = ours.weight_CD.detach().clone()
    peer_rows = getattr(theirs, weights)
    turned = peer_rows.shape != rows.shape
    peer_rows.data = rows.T.clone() if turned else rows
    emb_BD, label_B = _batch(dtype)
    peer_emb_BD, _ = _batch(dtype)
    loss, _ = ours(emb_BD, label_B)
    peer_loss = theirs(peer_emb_BD, label_B)
    (loss + peer_loss).backward()
    peer_grad = peer_rows.grad.T if turned else peer_rows.grad
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(loss, peer_loss, **tolerance)
    torch.testing.assert_close(emb_BD.grad, peer_emb_BD.grad, **tolerance)
    torch.testing.assert_close(ours.weight_CD.grad, peer_grad, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", PAIRS)
def test_heads_on_half_precision_embeddings(name: str, dtype: torch.dtype) -> None:
    """Against the peer in float64: it computes in the embeddings' dtype, where we compute in float32."""
    ours, theirs = PAIRS[name][0](CLASSES, DIM), PAIRS[name][1](CLASSES, DIM)
    theirs.W.data = ours.weight_CD.detach().T.double()
    emb_BD, label_B = _batch(dtype)
    expected = theirs(emb_BD.detach().double(), label_B)
    torch.testing.assert_close(ours(emb_BD, label_B)[0].double(), expected, rtol=1e-5, atol=1e-5)
    if name != "large-margin-softmax" and name != "sphereface":
        torch.testing.assert_close(theirs(emb_BD.detach(), label_B).double(), expected, rtol=TOLERANCE[dtype], atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_supcon(dtype: torch.dtype, temperature: float) -> None:
    emb_BD, label_B = _batch(dtype)
    loss = losses.SupCon(temperature)(emb_BD, label_B)
    loss.backward()
    peer_emb_BD, _ = _batch(dtype)
    peer_loss = pml.SupConLoss(temperature=temperature)(peer_emb_BD, label_B)
    peer_loss.backward()
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(loss, peer_loss, **tolerance)
    torch.testing.assert_close(emb_BD.grad, peer_emb_BD.grad, **tolerance)
