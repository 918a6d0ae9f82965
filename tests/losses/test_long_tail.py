"""Rare classes: published weights and shifts, where they act, and what has no place for them. Smoothing, mixtures."""

import math

import pytest
import torch
import torch.nn.functional as F

from kinsight import losses
from kinsight.errors import SpecError
from kinsight.losses import ClassCounts, build_objective
from kinsight.specs import losses as specs
from kinsight.specs.tasks import ClassBalanced, LogitAdjustment, LongTail

C, D, B = 4, 6, 9
COUNT_C = torch.tensor([100, 10, 1, 0])
KNOWN_C = torch.tensor([200, 200, 50, 200])


def emb(rows: int = B) -> torch.Tensor:
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(1))


LABEL_B = torch.tensor([0, 1, 2, 3, 0, 0, 1, 0, 2])


def objective(loss: specs.Loss, long_tail: LongTail, *extra: specs.Loss) -> losses.Objective:
    counts = ClassCounts(COUNT_C, KNOWN_C)
    return build_objective(loss, num_classes=C, embedding_dim=D, extra=extra, long_tail=long_tail, counts=counts)


def test_effective_numbers_by_hand() -> None:
    found = losses.effective_weights(COUNT_C, beta=0.9)
    raw = [0.1 / (1 - 0.9**n) for n in (100, 10, 1)]  # the last class has no image and no say
    assert found.tolist() == pytest.approx([*(3 * value / sum(raw) for value in raw), 1])
    many = losses.effective_weights(torch.tensor([1000, 100, *[0] * 98]), beta=0.999)
    assert many[:2].mean() == pytest.approx(1) and many[1] > many[0]
    assert losses.effective_weights(torch.zeros(3, dtype=torch.int64), beta=0.9).tolist() == [1, 1, 1]
    assert losses.effective_weights(COUNT_C, beta=1e-9).tolist() == pytest.approx([1] * 4)


def test_shifts_by_hand() -> None:
    assert losses.class_shift(COUNT_C, tau=2).tolist() == pytest.approx(
        [2 * math.log(n / 112) for n in (100, 10, 1, 1)]
    )
    expected = [math.log(100 / 100), math.log(10 / 190), math.log(1 / 49), math.log(1 / 200)]
    assert losses.label_shift(COUNT_C, KNOWN_C, tau=1).tolist() == pytest.approx(expected, abs=1e-6)
    assert losses.balancing_weights(COUNT_C, KNOWN_C).tolist() == pytest.approx([1, 19, 49, 1])


def test_balanced_weights_end_where_a_users_number_does() -> None:
    found = losses.balancing_weights(torch.tensor([2, 50]), torch.tensor([3_000_000, 3_000_000]))
    assert found.tolist() == [10_000, 10_000]
    assert specs.Bce(positive_weight=10_000).positive_weight == 10_000
    with pytest.raises(ValueError, match="10000"):
        specs.Bce(positive_weight=10_001)


def test_class_balanced_softmax() -> None:
    found = objective(specs.Softmax(), ClassBalanced(beta=0.9))
    logits_BC, weight_C = found.logits(emb()), losses.effective_weights(COUNT_C, beta=0.9)
    expected = (F.cross_entropy(logits_BC, LABEL_B, reduction="none") * weight_C[LABEL_B]).mean()
    torch.testing.assert_close(found(emb(), LABEL_B)[0], expected)


@pytest.mark.parametrize("loss", [specs.Softmax(), specs.Softmax(smoothing=0.2), specs.NormalizedSoftmax()])
def test_logit_adjustment_acts_in_training_alone(loss: specs.Softmax | specs.NormalizedSoftmax) -> None:
    found, plain = objective(loss, LogitAdjustment(tau=1.5)), objective(loss, losses.build.EqualClasses())
    torch.testing.assert_close(found.logits(emb()), plain.logits(emb()))
    shifted_BC = plain.logits(emb()) + losses.class_shift(COUNT_C, tau=1.5)
    expected = F.cross_entropy(shifted_BC, LABEL_B, label_smoothing=getattr(loss, "smoothing", 0.0))
    torch.testing.assert_close(found(emb(), LABEL_B)[0], expected)
    assert "shift_C" not in str(found.state_dict().keys())


def test_label_losses_take_both() -> None:
    target_BC = F.one_hot(LABEL_B, C).float()
    for kind in (specs.Bce(), specs.Focal(), specs.Asl()):
        plain = objective(kind, losses.build.EqualClasses())
        balanced, shifted = objective(kind, ClassBalanced(beta=0.9)), objective(kind, LogitAdjustment(tau=1))
        head = plain.head
        assert isinstance(head, losses.LabelHead)
        weight_C = losses.effective_weights(COUNT_C, beta=0.9)
        each_BC = head._label_losses(head.logits(emb()), target_BC)
        torch.testing.assert_close(balanced(emb(), target_BC)[0], (each_BC * weight_C).sum(1).mean())
        moved_BC = head._label_losses(head.logits(emb()) + losses.label_shift(COUNT_C, KNOWN_C, tau=1), target_BC)
        torch.testing.assert_close(shifted(emb(), target_BC)[0], moved_BC.sum(1).mean())
        torch.testing.assert_close(shifted.logits(emb()), plain.logits(emb()))


def test_balanced_positives_need_counts() -> None:
    head = objective(specs.Bce(positive_weight="balanced"), losses.build.EqualClasses()).head
    assert isinstance(head, losses.Bce) and head.positive_weight.tolist() == [1, 19, 49, 1]
    alone = build_objective(specs.Bce(positive_weight="balanced"), num_classes=C, embedding_dim=D).head
    assert isinstance(alone, losses.Bce) and alone.positive_weight.item() == 1


@pytest.mark.parametrize(
    ("loss", "long_tail"),
    [
        (specs.ArcFace(), LogitAdjustment()),
        (specs.SoftTriple(), LogitAdjustment()),
        (specs.ProxyAnchor(), ClassBalanced()),
        (specs.TwoWay(), ClassBalanced()),
        (specs.TwoWay(), LogitAdjustment()),
    ],
)
def test_no_place(loss: specs.Loss, long_tail: LongTail) -> None:
    with pytest.raises(SpecError, match="has no place in"):
        objective(loss, long_tail)


def test_smoothing_is_torchs() -> None:
    head = losses.Softmax(C, D, smoothing=0.3).double()
    emb_BD = emb().double().requires_grad_()
    loss, _ = head(emb_BD, LABEL_B)
    expected = F.cross_entropy(head.logits(emb_BD), LABEL_B, label_smoothing=0.3)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, emb_BD)[0] for value in (loss, expected)))


OVER_CLASSES = [
    specs.Softmax(), specs.Softmax(smoothing=0.1), specs.NormalizedSoftmax(), specs.AMSoftmax(), specs.CosFace(),
    specs.ArcFace(), specs.LargeMarginSoftmax(), specs.SphereFace(), specs.ArcMargin(), specs.ProxyNCA(),
    specs.ProxyAnchor(), specs.SoftTriple(centres=3), specs.SubCenterArcFace(), specs.AdaFace(), specs.MagFace(),
]  # fmt: skip


@pytest.mark.parametrize("loss", [*OVER_CLASSES, specs.Bce(), specs.TwoWay()], ids=lambda loss: loss.kind)
def test_the_linear_form_computes_the_logits(loss: specs.Loss) -> None:
    from kinsight.models import Classifier, ClassifierForm

    head = build_objective(loss, num_classes=C, embedding_dim=D).head
    assert head is not None
    if head.bias_C is not None:
        torch.nn.init.normal_(head.bias_C)
    weight_RD, bias_C, *kept = head.linear()
    names = ("unit", "centres", "pool", "sharpness")
    form = ClassifierForm(
        num_classes=C, embedding_dim=D, bias=bias_C is not None, **dict(zip(names, kept, strict=True))
    )
    torch.testing.assert_close(Classifier.of(form, weight_RD, bias_C)(3 * emb()), head.logits(3 * emb()))


@pytest.mark.parametrize("loss", OVER_CLASSES, ids=lambda loss: loss.kind)
def test_mixed_images(loss: specs.Loss) -> None:
    """The loss of a mixture is that of its parts, weighted; a share of 1 is the image alone."""
    found = build_objective(loss, num_classes=C, embedding_dim=D).eval()
    other_B, share_B = LABEL_B.roll(1), torch.linspace(0, 1, B)
    mixed, stats = found(emb(), LABEL_B, mixed=(other_B, share_B))
    if loss.kind != "proxy-anchor":
        each = [found(emb()[i : i + 1], label_B[i : i + 1])[0] for label_B in (LABEL_B, other_B) for i in range(B)]
        expected = (torch.stack(each).view(2, B) * torch.stack([share_B, 1 - share_B])).sum(0).mean()
        torch.testing.assert_close(mixed, expected)
    alone, _ = found(emb(), LABEL_B, mixed=(other_B, torch.ones(B)))
    torch.testing.assert_close(alone, found(emb(), LABEL_B)[0])
    assert 0 <= stats[f"{loss.kind}.accuracy"] <= 1


def test_mixed_softmax_is_cross_entropy_with_soft_targets() -> None:
    found = build_objective(specs.Softmax(), num_classes=C, embedding_dim=D)
    other_B, share_B = LABEL_B.roll(1), torch.linspace(0, 1, B)
    soft_BC = F.one_hot(LABEL_B, C) * share_B[:, None] + F.one_hot(other_B, C) * (1 - share_B)[:, None]
    expected = F.cross_entropy(found.logits(emb()), soft_BC)
    torch.testing.assert_close(found(emb(), LABEL_B, mixed=(other_B, share_B))[0], expected)
    parts = [found(emb()[a:b], LABEL_B[a:b], mixed=(other_B[a:b], share_B[a:b]), global_batch=B)[0]
             for a, b in ((0, 4), (4, B))]  # fmt: skip
    torch.testing.assert_close(parts[0] + parts[1], expected)
