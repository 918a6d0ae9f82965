"""SupCon against a loop in float64, and batches in which nothing or not everything has a positive."""

import math

import pytest
import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.losses import supcon, supcon_anchors

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])


def _embeddings(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(len(LABELS), 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def _oracle(emb: list[list[float]], labels: list[int], temperature: float) -> list[float | None]:
    """Loss of each anchor; None without a positive."""

    def score(a: int, b: int) -> float:
        product = sum(x * y for x, y in zip(emb[a], emb[b], strict=True))
        return product / math.hypot(*emb[a]) / math.hypot(*emb[b]) / temperature

    losses: list[float | None] = []
    for anchor in range(len(emb)):
        others = [other for other in range(len(emb)) if other != anchor]
        positives = [other for other in others if labels[other] == labels[anchor]]
        total = sum(math.exp(score(anchor, other)) for other in others)
        terms = [-math.log(math.exp(score(anchor, positive)) / total) for positive in positives]
        losses.append(sum(terms) / len(terms) if terms else None)
    return losses


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_mean_over_anchors_with_a_positive(temperature: float) -> None:
    losses = _oracle(_embeddings().tolist(), LABELS.tolist(), temperature)
    present = [loss for loss in losses if loss is not None]
    assert len(present) == 5
    expected = sum(present) / len(present)
    assert supcon(_embeddings(), LABELS, temperature=temperature).item() == pytest.approx(expected, rel=1e-9)

    weights = torch.linspace(0, 1, len(LABELS), dtype=torch.float64)
    pairs = [(w, loss) for w, loss in zip(weights.tolist(), losses, strict=True) if loss is not None]
    expected = sum(w * loss for w, loss in pairs) / sum(w for w, _ in pairs)
    weighted = supcon(_embeddings(), LABELS, temperature=temperature, sample_weight_B=weights)
    assert weighted.item() == pytest.approx(expected, rel=1e-9)


def test_gradcheck() -> None:
    emb_BD = _embeddings().requires_grad_()
    assert torch.autograd.gradcheck(lambda emb_BD: supcon(emb_BD, LABELS, temperature=0.3), (emb_BD,))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0]], ids=["all-different", "alone"])
def test_no_positive_pair_is_zero_and_in_the_graph(labels: list[int]) -> None:
    emb_BD = _embeddings(torch.float32)[: len(labels)].requires_grad_()
    label_B = torch.tensor(labels)
    loss = supcon(emb_BD, label_B, temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert emb_BD.grad is not None and not emb_BD.grad.any()
    assert not supcon_anchors(emb_BD, label_B, emb_BD, label_B, temperature=0.1)[1].any()


def test_anchors_of_a_part_equal_those_of_the_whole() -> None:
    emb_BD = _embeddings()
    whole, has_positive = supcon_anchors(emb_BD, LABELS, emb_BD, LABELS, temperature=0.1)
    part, part_has_positive = supcon_anchors(emb_BD[2:5], LABELS[2:5], emb_BD, LABELS, temperature=0.1, first=2)
    torch.testing.assert_close(part, whole[2:5])
    assert torch.equal(part_has_positive, has_positive[2:5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_input_stays_finite(dtype: torch.dtype) -> None:
    row = _embeddings()[0]
    longest = 1e3 if dtype == torch.float16 else 1e30
    emb_BD = torch.stack([row, row, -row, 0 * row, row * longest, -row * longest, row]).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = supcon(emb_BD, LABELS, temperature=0.01)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert emb_BD.grad is not None and emb_BD.grad.isfinite().all()


def test_order_of_the_batch_does_not_matter() -> None:
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    shuffled = supcon(_embeddings()[order], LABELS[order], temperature=0.1)
    torch.testing.assert_close(shuffled, supcon(_embeddings(), LABELS, temperature=0.1))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(DataError, match="expected int64"):
        supcon(_embeddings(), LABELS[:3], temperature=0.1)
    with pytest.raises(SpecError, match="above 0"):
        supcon(_embeddings(), LABELS, temperature=0)
