"""Heads over classes against loops in float64, their gradients, their behaviour on extreme and wrong input."""

import math

import pytest
import torch
from loss_cases import BATCH, CLASSES, DIM, HEADS, UNIT, batch, oracle, sample_weights
from torch import Tensor

from kinsight import losses
from kinsight.errors import DataError, SpecError
from kinsight.losses.numerics import class_rows, unit_rows


@pytest.mark.parametrize("name", HEADS)
def test_mean_and_weighted_mean_equal_the_loop(name: str) -> None:
    head = HEADS[name]().double()
    emb_BD, label_B = batch()
    loss_B = torch.tensor(oracle(name, head, emb_BD, label_B), dtype=torch.float64)
    weight_B = sample_weights()
    torch.testing.assert_close(head(emb_BD, label_B)[0], loss_B.mean())
    torch.testing.assert_close(head(emb_BD, label_B, weight_B)[0], (loss_B * weight_B).sum() / weight_B.sum())


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck(name: str, weighted: bool) -> None:
    head = HEADS[name]().double()
    emb_BD, label_B = batch()
    weight_B = sample_weights() if weighted else None

    length_B1 = emb_BD.norm(dim=1, keepdim=True)

    def loss(emb_BD: Tensor, weight_CD: Tensor) -> Tensor:
        if name == "adaface":  # reads the lengths without gradient: they must not move here
            emb_BD = emb_BD / emb_BD.norm(dim=1, keepdim=True) * length_B1
        return torch.func.functional_call(head, {"weight_CD": weight_CD}, (emb_BD, label_B, weight_B))[0]

    weight_CD = head.weight_CD.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (emb_BD.requires_grad_(), weight_CD))


@pytest.mark.parametrize("name", HEADS)
def test_accuracy_counts_unmargined_logits(name: str) -> None:
    head = HEADS[name]().double()
    emb_BD, label_B = batch()
    hit_B = (head.logits(emb_BD).argmax(1) == label_B).double()
    weight_B = sample_weights()
    assert head(emb_BD, label_B)[1]["accuracy"].item() == pytest.approx(hit_B.mean().item())
    expected = (hit_B * weight_B).sum() / weight_B.sum()
    assert head(emb_BD, label_B, weight_B)[1]["accuracy"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_compute_in_float32(name: str, dtype: torch.dtype) -> None:
    head = HEADS[name]()
    emb_BD, label_B = batch(dtype)
    expected = head(emb_BD.float(), label_B)[0]
    emb_BD.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = head(emb_BD, label_B)
        logits_BC = head.logits(emb_BD)
    assert loss.dtype == logits_BC.dtype == torch.float32
    assert torch.equal(loss, expected)
    loss.backward()
    assert emb_BD.grad is not None and emb_BD.grad.dtype == dtype and emb_BD.grad.isfinite().all()


def _extremes(head: losses.ClassHead, name: str) -> Tensor:
    """Rows at cosine 1, -1, between pi - m and pi, 0, tiny, and long; labels are all class 0."""
    row = head.weight_CD.detach()[0]
    off = torch.zeros(DIM)
    off[0] = 1e-3
    longest = 1e30 if name in UNIT else 1e4
    return torch.stack(
        [row, -row, row / row.norm(), -row / row.norm(), -row + off, row + off, 0 * row, row * 1e-30, row * longest]
    )


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_extreme_input_stays_finite(name: str, dtype: torch.dtype) -> None:
    head = HEADS[name]()
    emb_BD = _extremes(head, name).to(dtype).requires_grad_()
    loss, _ = head(emb_BD, torch.zeros(len(emb_BD), dtype=torch.int64))
    loss.backward()
    assert loss.isfinite()
    assert emb_BD.grad is not None and emb_BD.grad.isfinite().all()
    assert head.weight_CD.grad is not None and head.weight_CD.grad.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_class_weights_of_length_zero_stay_finite(name: str) -> None:
    head = HEADS[name]()
    with torch.no_grad():
        head.weight_CD[0] = 0
    emb_BD, label_B = batch(torch.float32)
    loss, _ = head(emb_BD, label_B * 0)
    loss.backward()
    assert loss.isfinite()
    assert head.weight_CD.grad is not None and head.weight_CD.grad.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_nothing_to_average_is_zero_and_in_the_graph(name: str) -> None:
    head = HEADS[name]()
    emb_BD, label_B = batch(torch.float32)
    for rows, weight_B in ((0, None), (BATCH, torch.zeros(BATCH))):
        head.zero_grad()
        loss, stats = head(emb_BD[:rows], label_B[:rows], weight_B)
        loss.backward()
        assert loss.item() == 0 and stats["accuracy"].item() == 0
        assert head.weight_CD.grad is not None and not head.weight_CD.grad.any()


def test_arcface_beyond_pi_minus_margin_by_hand() -> None:
    head = losses.ArcFace(2, 2, margin_deg=60, scale=10).double()
    with torch.no_grad():
        head.weight_CD.copy_(torch.eye(2))
    # 150 degrees from class 0, 60 from class 1: beyond 120, so cos(150) - m sin(m) with m = pi / 3.
    emb_BD = torch.tensor([[-math.sqrt(3) / 2, 0.5]], dtype=torch.float64) * 7
    own = 10 * (-math.sqrt(3) / 2 - math.pi / 3 * math.sqrt(3) / 2)
    expected = math.log(1 + math.exp(10 * 0.5 - own))
    assert head(emb_BD, torch.tensor([0]))[0].item() == pytest.approx(expected)


def test_equal_seeds_give_equal_weights_without_touching_the_global_generator() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (losses.AMSoftmax(300, 8, seed=seed).weight_CD for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.norm(dim=1).mean().item() == pytest.approx(1, abs=0.1)


def test_arcmargin_starts_from_xavier_weights() -> None:
    weight_CD = losses.ArcMargin(400, 20, seed=1).weight_CD
    bound = math.sqrt(6 / (400 + 20))
    assert 0.99 * bound < weight_CD.abs().max() <= bound
    assert weight_CD.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_heads_tell_their_settings() -> None:
    assert "margin_rad=0.15" in repr(losses.ArcMargin(5, 4)) and "centres=3" in repr(losses.SubCenterArcFace(5, 4))


@pytest.mark.parametrize("uniform", [False, True])
def test_any_interval_of_classes_starts_from_the_same_rows(uniform: bool) -> None:
    whole = class_rows(0, 1000, 3, seed=5, uniform=uniform)
    for first, last in ((0, 1), (0, 256), (255, 257), (256, 700), (999, 1000), (300, 300)):
        assert torch.equal(class_rows(first, last, 3, seed=5, uniform=uniform), whole[first:last])
    assert len(whole.unique()) > 2990, "blocks repeat each other"
    if uniform:
        assert whole.abs().max() <= 3**-0.5


def test_unit_rows_of_any_length() -> None:
    rows = torch.tensor([[3.0, 4.0], [3e-20, 4e-20], [3e30, 4e30], [0, 0]])
    expected = torch.tensor([[0.6, 0.8]] * 3 + [[0, 0]])
    torch.testing.assert_close(unit_rows(rows), expected)
    assert unit_rows(torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    "label_B",
    [torch.tensor([0.0, 1.0]), torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0]), torch.tensor([[0, 1]])],
)
def test_labels_of_another_kind_are_refused(label_B: Tensor) -> None:
    with pytest.raises(DataError, match="expected int64"):
        HEADS["am-softmax"]()(torch.zeros(2, DIM), label_B)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_labels_out_of_range_are_named(label: int) -> None:
    with pytest.raises(DataError, match=f"label {label}: expected 0 to {CLASSES - 1}"):
        HEADS["softmax"]()(torch.zeros(2, DIM), torch.tensor([0, label]))


def test_embeddings_of_another_length_are_refused() -> None:
    with pytest.raises(SpecError, match=rf"\(2, {DIM + 1}\).*\(batch, {DIM}\)"):
        HEADS["arcface"]()(torch.zeros(2, DIM + 1), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: losses.ArcFace(5, 4, margin_deg=91), "at most 90"),
        (lambda: losses.AMSoftmax(5, 4, margin=1.5), "at most 1"),
        (lambda: losses.CosFace(5, 4, scale=0), "above 0"),
        (lambda: losses.SphereFace(5, 4, margin=2.5), "whole number"),  # pyright: ignore[reportArgumentType]
        (lambda: losses.LargeMarginSoftmax(5, 4, margin=0), "whole number"),
        (lambda: losses.NormalizedSoftmax(5, 4, temperature=0), "above 0"),
        (lambda: losses.SmoothedCrossEntropy(5, 4, smoothing=1), "below 1"),
        (lambda: losses.Softmax(1, 4), "at least 2"),
        (lambda: losses.ArcMargin(5, 4, margin_rad=8.6), "at most 1.5708"),
        (lambda: losses.ProxyNCA(5, 4, temperature=0), "above 0"),
        (lambda: losses.ProxyAnchor(5, 4, alpha=0), "above 0"),
        (lambda: losses.ProxyAnchor(5, 4, margin=-0.1), "at most 1"),
        (lambda: losses.ProxyAnchor(1, 4), "at least 2"),
        (lambda: losses.SoftTriple(5, 4, centres=1), "from 2"),
        (lambda: losses.SoftTriple(5, 4, tau=-1), "from 0"),
        (lambda: losses.SoftTriple(5, 4, gamma=0), "above 0"),
        (lambda: losses.SubCenterArcFace(5, 4, centres=1), "from 2"),
        (lambda: losses.SubCenterArcFace(5, 4, margin_deg=91), "at most 90"),
        (lambda: losses.AdaFace(5, 4, t_alpha=1.5), "at most 1"),
        (lambda: losses.AdaFace(5, 4, h=0), "above 0"),
        (lambda: losses.MagFace(5, 4, l_a=110, u_a=10), "below u_a"),
        (lambda: losses.MagFace(5, 4, l_margin_rad=45), "at most 1.5708"),
    ],
)
def test_impossible_settings_are_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(SpecError, match=message):
        build()
