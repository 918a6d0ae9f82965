"""ProxyAnchor against a loop in float64: several labels, weights, absent classes, several processes, extremes."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from gloo_ranks import Result, own_rows, run_ranks
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from kinsight.errors import DataError, SpecError
from kinsight.losses import HeadTerm, Objective, ProxyAnchor

CLASSES, DIM, BATCH = 7, 5, 11
ONE, SEVERAL = "one label", "several labels"


def _head(alpha: float = 32.0) -> ProxyAnchor:
    return ProxyAnchor(CLASSES, DIM, margin=0.1, alpha=alpha, seed=2).double()


def _batch(labels: str = ONE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    emb_BD = torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64) * 3
    target = torch.randint(CLASSES - 2, (BATCH, 3), generator=generator)  # two classes have no image
    target[::2, 1:] = -1
    target[4] = -1
    return emb_BD, target if labels == SEVERAL else target[:, 0].clamp_min(0)


def _loop(emb_BD: Tensor, proxies_CD: Tensor, target: Tensor, copies: list[float], alpha: float) -> Tensor:
    """Equation 4, image by image; an image of weight w is there w times."""
    own = [set(row) if isinstance(row, list) else {row} for row in target.tolist()]
    positive_terms: list[Tensor] = []
    negative_terms: list[Tensor] = []
    for j, proxy in enumerate(proxies_CD):
        pull, push, seen = emb_BD.new_zeros(()), emb_BD.new_zeros(()), False
        for x, labels, times in zip(emb_BD, own, copies, strict=True):
            cos = x @ proxy / (x.norm() * proxy.norm())
            if j in labels:
                pull = pull + times * torch.exp(-alpha * (cos - 0.1))
                seen = seen or times > 0
            else:
                push = push + times * torch.exp(alpha * (cos + 0.1))
        positive_terms += [torch.log(1 + pull)] if seen else []
        negative_terms.append(torch.log(1 + push))
    return torch.stack(positive_terms).mean() + torch.stack(negative_terms).mean()


@pytest.mark.parametrize("labels", [ONE, SEVERAL])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [4.0, 32.0])
def test_value_and_gradients_equal_the_loop(labels: str, weighted: bool, alpha: float) -> None:
    head = _head(alpha)
    emb_BD, target = _batch(labels)
    emb_BD.requires_grad_()
    weight_B = torch.tensor([0.0, 2.0, 0.5, 1.0, 1.0, 3.0, 0.25, 1.0, 0.0, 1.0, 1.5]) if weighted else None
    copies = [1.0] * BATCH if weight_B is None else weight_B.tolist()
    expected = _loop(emb_BD, head.weight_CD, target, copies, alpha)
    loss, _ = head(emb_BD, target, weight_B)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    wanted = torch.autograd.grad(expected, (emb_BD, head.weight_CD))
    for grad, other in zip(torch.autograd.grad(loss, (emb_BD, head.weight_CD)), wanted, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("labels", [ONE, SEVERAL])
def test_gradcheck(labels: str) -> None:
    head = _head(alpha=5)
    emb_BD, target = _batch(labels)

    def loss(emb_BD: Tensor, weight_CD: Tensor) -> Tensor:
        return torch.func.functional_call(head, {"weight_CD": weight_CD}, (emb_BD, target))[0]

    assert torch.autograd.gradcheck(loss, (emb_BD.requires_grad_(), head.weight_CD.detach().clone().requires_grad_()))


def test_whole_weights_are_copies() -> None:
    head, (emb_BD, target) = _head(), _batch(SEVERAL)
    times_B = torch.tensor([0, 2, 1, 1, 3, 1, 1, 1, 0, 1, 1])
    repeated = head(emb_BD.repeat_interleave(times_B, 0), target.repeat_interleave(times_B, 0))
    weighted = head(emb_BD, target, times_B.double())
    torch.testing.assert_close(weighted[0], repeated[0])
    torch.testing.assert_close(weighted[1]["accuracy"], repeated[1]["accuracy"])


def test_accuracy_takes_any_of_the_labels() -> None:
    head, (emb_BD, target) = _head(), _batch(SEVERAL)
    best_B = head.logits(emb_BD).argmax(1)
    expected = sum(int(best) in row for best, row in zip(best_B, target.tolist(), strict=True)) / BATCH
    assert head(emb_BD, target)[1]["accuracy"].item() == pytest.approx(expected)


def test_rows_of_minus_one_are_as_good_as_one_label() -> None:
    head, (emb_BD, label_B) = _head(), _batch()
    padded_BL = torch.stack([torch.full_like(label_B, -1), label_B], 1)
    assert torch.equal(head(emb_BD, label_B)[0], head(emb_BD, padded_BL)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("alpha", [32.0, 1000.0])
def test_extremes_stay_finite(dtype: torch.dtype, alpha: float) -> None:
    head = ProxyAnchor(CLASSES, DIM, alpha=alpha)
    row = head.weight_CD.detach()[0]
    emb_BD = torch.stack([row, -row, 0 * row, row * 1e-30, row * 1e30]).to(dtype).requires_grad_()
    loss, _ = head(emb_BD, torch.zeros(5, dtype=torch.int64))
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert emb_BD.grad is not None and emb_BD.grad.isfinite().all()
    assert head.weight_CD.grad is not None and head.weight_CD.grad.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(emb_BD, torch.zeros(5, dtype=torch.int64))[0], loss)


@pytest.mark.parametrize("rows", [0, BATCH])
def test_nothing_to_average_is_zero_and_in_the_graph(rows: int) -> None:
    head, (emb_BD, target) = _head(), _batch()
    loss, stats = head(emb_BD[:rows], target[:rows], torch.zeros(rows) if rows else None)
    loss.backward()
    assert loss.item() == 0 and stats["accuracy"].item() == 0
    assert head.weight_CD.grad is not None and not head.weight_CD.grad.any()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, -1]), "label -1: expected 0 to 6"),
        (torch.tensor([0, 7]), "label 7"),
        (torch.tensor([[0, 7], [1, -1]]), "label 7"),
        (torch.tensor([[0, -2], [1, -1]]), "label -2: expected 0 to 6, or -1"),
        (torch.tensor([[0, 1]]), r"expected int64 and \(2,\) or \(2, L\)"),
        (torch.tensor([[0.0], [1.0]]), "expected int64"),
    ],
)
def test_wrong_labels_are_named(target: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _head()(torch.zeros(2, DIM, dtype=torch.float64), target)


def test_embeddings_of_another_length_are_refused() -> None:
    with pytest.raises(SpecError, match="expected"):
        _head()(torch.zeros(2, DIM + 1), torch.tensor([0, 1]))


MODES = list(product((ONE, SEVERAL), (False, True), (None, BATCH)))
"""Labels, whether samples have weights, what is known of the batch."""


def _step(
    objective: torch.nn.Module, batch: tuple[Tensor, Tensor, Tensor], weighted: bool, known: int | None
) -> Result:
    emb_BD, target, weight_B = batch
    objective.zero_grad()
    kwargs = {"sample_weight_B": weight_B if weighted else None, "global_batch": known}
    loss, stats = objective(emb_BD, target, **kwargs)
    loss.backward()
    (weight,) = objective.parameters()
    assert weight.grad is not None
    return {"grad": weight.grad.clone(), "loss": loss.detach(), "accuracy": stats["proxy-anchor.accuracy"]}


def _whole(labels: str) -> tuple[Tensor, Tensor, Tensor]:
    weight_B = torch.rand(BATCH, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return *_batch(labels), weight_B


def _objective() -> Objective:
    return Objective([HeadTerm("proxy-anchor", 1.0, _head())])


def _worker(rank: int, world: int) -> Result:
    result: Result = {}
    for labels, weighted, known in MODES:
        emb_BD, target, weight_B = (own_rows(tensor, rank, world) for tensor in _whole(labels))
        part = _step(DistributedDataParallel(_objective()), (emb_BD, target, weight_B), weighted, known)
        result |= {f"{labels} {weighted} {known} {name}": value for name, value in part.items()}
    return result


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_equal_one_process(world: int, tmp_path: Path) -> None:
    """Also with labels in rows; the images of one class lie on several ranks, and one of four has none."""
    ranks = run_ranks(_worker, world, tmp_path)
    for labels, weighted, known in MODES:
        for name, expected in _step(_objective(), _whole(labels), weighted, known).items():
            values = [result[f"{labels} {weighted} {known} {name}"] for result in ranks]
            actual = values[-1] if name == "grad" else torch.stack(values).mean(0)
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_loss_of_a_class_at_its_proxy_by_hand() -> None:
    """Two classes, one image on the first proxy, the second proxy opposite."""
    head = ProxyAnchor(2, 2, margin=0.1, alpha=2).double()
    with torch.no_grad():
        head.weight_CD.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    loss, stats = head(torch.tensor([[3.0, 0.0]], dtype=torch.float64), torch.tensor([0]))
    expected = math.log(1 + math.exp(-2 * 0.9)) + math.log(1 + math.exp(2 * (-1 + 0.1))) / 2
    assert loss.item() == pytest.approx(expected) and stats["accuracy"].item() == 1
