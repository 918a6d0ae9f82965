"""Losses over labels: against plain Python in float64, against published code, and at the edges."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinsight import losses
from kinsight.errors import DataError, SpecError

B, C, D = 7, 5, 4
HEADS: dict[str, Callable[[], losses.LabelHead]] = {
    "bce": lambda: losses.Bce(C, D),
    "bce-weighted": lambda: losses.Bce(C, D, positive_weight=torch.tensor([1.0, 2.0, 0.5, 3.0, 7.0])),
    "focal": lambda: losses.Focal(C, D),
    "focal-plain": lambda: losses.Focal(C, D, gamma=1.5, alpha=None),
    "asl": lambda: losses.Asl(C, D),
    "asl-positive": lambda: losses.Asl(C, D, gamma_positive=1, gamma_negative=2, clip=0.2),
    "asl-whole": lambda: losses.Asl(C, D, gamma_positive=0.5, gamma_negative=0.5, clip=0),
    "two-way": lambda: losses.TwoWay(C, D),
    "two-way-cold": lambda: losses.TwoWay(C, D, positive_temperature=0.7, negative_temperature=0.3),
}
ADDITIVE = [name for name in HEADS if not name.startswith("two-way")]


def one_label(name: str, z: float, positive: bool, c: int) -> float:
    """The published formula of one label, from its probability."""
    p = 1 / (1 + math.exp(-z))
    if name.startswith("bce"):
        weight = [1.0, 2.0, 0.5, 3.0, 7.0][c] if name == "bce-weighted" else 1.0
        return -weight * math.log(p) if positive else -math.log(1 - p)
    if name.startswith("focal"):
        gamma, (up, down) = (2.0, (0.25, 0.75)) if name == "focal" else (1.5, (1.0, 1.0))
        return -up * (1 - p) ** gamma * math.log(p) if positive else -down * p**gamma * math.log(1 - p)
    settings = {"asl": (0, 4, 0.05), "asl-positive": (1, 2, 0.2), "asl-whole": (0.5, 0.5, 0)}
    above, below, clip = settings[name]
    q = max(p - clip, 0)
    return -((1 - p) ** above) * math.log(p) if positive else -(q**below) * math.log(1 - q)


def by_loop(name: str, logits: list[list[float]], target: list[list[float]], weight: list[float]) -> float:
    total = 0.0
    for z, t, w in zip(logits, target, weight, strict=True):
        known = [c for c in range(C) if t[c] >= 0]
        each = [
            t[c] * one_label(name, z[c], True, c) + (1 - t[c]) * one_label(name, z[c], False, c) if t[c] not in (0, 1)
            else one_label(name, z[c], t[c] == 1, c)
            for c in known
        ]  # fmt: skip
        total += w * sum(each) * C / len(known) if known else 0
    return total / sum(weight)


def two_way_by_loop(
    temperatures: tuple[float, float], logits: list[list[float]], target: list[list[float]], weight: list[float]
) -> float:
    up, down = temperatures

    def compared(cells: list[tuple[float, float, float]]) -> float | None:
        """(logit, target, copies) of an image's labels, or of a label's images."""
        positive = sum(w * t * math.exp(-z / up) for z, t, w in cells if t > 0)
        negative = sum(w * (1 - t) * math.exp(z / down) for z, t, w in cells if 0 <= t < 1)
        if positive == 0:
            return None
        return math.log1p(negative**down * positive**up)

    images = [
        (w, compared([(z[c], t[c], 1.0) for c in range(C)])) for z, t, w in zip(logits, target, weight, strict=True)
    ]
    found = [(w, value) for w, value in images if value is not None]
    labels = [compared([(logits[b][c], target[b][c], weight[b]) for b in range(len(logits))]) for c in range(C)]
    seen = [value for value in labels if value is not None]
    return sum(w * v for w, v in found) / sum(w for w, _ in found) + sum(seen) / len(seen)


def batch(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    emb_BD = 2 * torch.randn(B, D, generator=generator, dtype=torch.float64)
    target_BC = (torch.rand(B, C, generator=generator) < 0.4).double()
    target_BC[0], target_BC[1] = 0, 1
    target_BC[:, 3] = 0  # a label that no image shows
    if kind == "partial":
        target_BC[torch.rand(B, C, generator=generator) < 0.3] = -1
        target_BC[2] = -1
    if kind == "soft":
        target_BC = torch.where(target_BC == 1, torch.rand(B, C, generator=generator, dtype=torch.float64), 0)
        target_BC[3, 0] = 1
    return emb_BD, target_BC


@pytest.mark.parametrize("kind", ["hard", "partial", "soft"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_value_and_slopes_equal_the_formula(name: str, kind: str, weighted: bool) -> None:
    head = HEADS[name]().double()
    emb_BD, target_BC = batch(kind)
    weight_B = torch.linspace(0.2, 2, B, dtype=torch.float64)

    def formula(bias_C: list[float]) -> float:
        shifted_BC = emb_BD @ head.weight_CD.detach().T + torch.tensor(bias_C, dtype=torch.float64)
        weight = weight_B.tolist() if weighted else [1.0] * B
        if name.startswith("two-way"):
            temperatures = (4.0, 1.0) if name == "two-way" else (0.7, 0.3)
            return two_way_by_loop(temperatures, shifted_BC.tolist(), target_BC.tolist(), weight)
        return by_loop(name, shifted_BC.tolist(), target_BC.tolist(), weight)

    loss, stats = head(emb_BD, target_BC, weight_B if weighted else None)
    loss.backward()
    bias = head.bias_C.detach().tolist()
    assert loss.item() == pytest.approx(formula(bias), rel=1e-10)
    assert head.bias_C.grad is not None and 0 <= stats["accuracy"] <= 1
    step = 1e-5
    for c in range(C):
        up, down = ([value + sign * step * (place == c) for place, value in enumerate(bias)] for sign in (1, -1))
        assert head.bias_C.grad[c].item() == pytest.approx((formula(up) - formula(down)) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("kind", ["hard", "partial", "soft"])
@pytest.mark.parametrize("name", HEADS)
def test_gradcheck(name: str, kind: str) -> None:
    head = HEADS[name]().double()
    emb_BD, target_BC = batch(kind)
    assert torch.autograd.gradcheck(lambda emb: head(emb, target_BC)[0], (emb_BD.requires_grad_(),))


def test_as_published_code() -> None:
    from timm import loss as published
    from torchvision.ops import sigmoid_focal_loss

    emb_BD, target_BC = batch("hard")

    def ours(head: losses.LabelHead) -> tuple[float, Tensor]:
        head = head.double()
        return head(emb_BD, target_BC)[0].item(), head.logits(emb_BD)

    value, logits_BC = ours(losses.Bce(C, D))
    assert value == pytest.approx(C * F.binary_cross_entropy_with_logits(logits_BC, target_BC).item())
    value, logits_BC = ours(losses.Focal(C, D))
    assert value == pytest.approx(sigmoid_focal_loss(logits_BC, target_BC, reduction="sum").item() / B)
    value, logits_BC = ours(losses.Asl(C, D, gamma_positive=1))
    theirs = published.AsymmetricLossMultiLabel(gamma_neg=4, gamma_pos=1, clip=0.05, eps=0)(logits_BC, target_BC)
    # its versions sum over the batch, or take the mean
    assert min(abs(value - theirs.item() / B), abs(value - theirs.item())) < 1e-6
    value, logits_BC = ours(losses.TwoWay(C, D))
    if hasattr(published, "TwoWayLoss"):
        assert value == pytest.approx(published.TwoWayLoss(4.0, 1.0)(logits_BC, target_BC).item(), rel=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_unknown_labels_count_in_nothing(name: str) -> None:
    """Whatever is predicted of them, value and slopes stay; an image without any known label has none."""
    head = HEADS[name]().double()
    emb_BD, target_BC = batch("partial")
    emb_BD.requires_grad_()
    loss, _ = head(emb_BD, target_BC)
    (slope_BD,) = torch.autograd.grad(loss, emb_BD)
    assert not slope_BD[2].any() and slope_BD[[0, 1, 3]].any(1).all()
    moved = head.weight_CD.detach().clone()
    unknown_C = torch.tensor([-1.0] * 2 + [1.0] * (C - 2)).double()
    only = target_BC.clone()
    only[:, :2] = -1
    before = head(emb_BD, only)[0]
    with torch.no_grad():
        head.weight_CD[:2] += 3 * unknown_C[:2, None]
    assert head(emb_BD, only)[0].item() == pytest.approx(before.item(), rel=1e-12)
    assert not torch.equal(moved, head.weight_CD)


@pytest.mark.parametrize("name", HEADS)
def test_finite_at_any_logit(name: str) -> None:
    head = HEADS[name]()
    with torch.no_grad():
        head.weight_CD.copy_(torch.eye(C, D))
    for size in (0.0, 30.0, 100.0, 1e4):
        emb_BD = (size * torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])).requires_grad_()
        loss, _ = head(emb_BD, torch.tensor([[1, 1, 0, 0, 1], [1, 0, 0, 1, 0]]))
        loss.backward()
        assert loss.isfinite() and emb_BD.grad is not None and emb_BD.grad.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_half_precision_and_empty_batches(name: str) -> None:
    head = HEADS[name]()
    emb_BD, target_BC = batch("hard")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = head(emb_BD.bfloat16(), target_BC.to(torch.int8))
    assert loss.dtype == torch.float32
    empty, _ = head(torch.zeros(0, D, requires_grad=True), torch.zeros(0, C))
    empty.backward()
    assert empty.item() == 0


def test_starts() -> None:
    assert torch.allclose(losses.Focal(C, D).bias_C.sigmoid(), torch.tensor(0.01))
    assert not losses.Asl(C, D).bias_C.any()
    assert torch.equal(losses.Asl(C, D, seed=3).weight_CD, losses.Bce(C, D, seed=3).weight_CD)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(B, C + 1), r"shape \(7, 6\): expected \(7, 5\)"),
        (torch.zeros(B, dtype=torch.int64), r"shape \(7,\)"),
        (torch.full((B, C), 2.0), "target 2"),
        (torch.full((B, C), -0.5), "target -0.5"),
        (torch.full((B, C), math.nan), "target nan"),
    ],
)
def test_wrong_targets(target: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        losses.Bce(C, D)(torch.zeros(B, D), target)


def test_wrong_settings() -> None:
    for make in (
        lambda: losses.Bce(C, D, positive_weight=0.0),
        lambda: losses.Bce(C, D, positive_weight=torch.ones(3)),
        lambda: losses.Focal(C, D, alpha=1.0),
        lambda: losses.Asl(C, D, clip=1.0),
        lambda: losses.TwoWay(C, D, positive_temperature=0.0),
        lambda: losses.Bce(0, D),
    ):
        with pytest.raises(SpecError, match="expected"):
            make()
    with pytest.raises(SpecError, match="embeddings of shape"):
        losses.Bce(C, D)(torch.zeros(B, D + 1), torch.zeros(B, C))


@pytest.mark.parametrize("name", HEADS)
def test_learns_what_is_separable(name: str) -> None:
    """Labels that are signs of coordinates, a third of them hidden: all are told in the end."""
    generator = torch.Generator().manual_seed(0)
    emb_ND = torch.randn(200, 5, generator=generator)
    truth_NC = (emb_ND > 0).float()
    hidden_NC = torch.where(torch.rand(200, 5, generator=generator) < 0.3, -1.0, truth_NC)
    head = {"bce": losses.Bce, "focal": losses.Focal, "asl": losses.Asl, "two-way": losses.TwoWay}[
        "two-way" if name.startswith("two-way") else name.partition("-")[0]
    ](5, 5)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        head(emb_ND, hidden_NC)[0].backward()
        optimizer.step()
    order_NC = head.logits(emb_ND).detach()
    for c in range(5):  # every positive above nearly every negative of its label
        positive, negative = order_NC[truth_NC[:, c] == 1, c], order_NC[truth_NC[:, c] == 0, c]
        assert (positive[:, None] > negative).float().mean() > 0.995
