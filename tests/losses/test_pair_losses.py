"""Every loss over pairs against its loop in float64, over every relation; whole, in blocks and pair by pair."""

import itertools

import pytest
import torch
from pair_oracles import CASES, Alike, Case
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.losses import PairLoss, SigmoidPairs, SupCon, Triplet, pair_blocks, pairs
from kinsight.relations import Hierarchy, Relation, SameLabel, SharedLabels, SoftLabels

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 1, 0])
SUPER = torch.tensor([0, 0, 0, 1, 0, 0, 1, 0, 0])
SEVERAL = torch.tensor([[0, 1], [1, -1], [0, 2], [2, 3], [1, 4], [4, -1], [5, 6], [6, -1], [0, 5]])
_ALIKE = torch.tensor([[1.0, 0.8, 0.4, 0.1], [0.8, 1, 0.2, 0.0], [0.4, 0.2, 1, 0.75], [0.1, 0.0, 0.75, 1]])
RELATIONS: dict[str, tuple[Relation, Tensor]] = {
    "same-label": (SameLabel(), LABELS),
    "unknown-label": (SameLabel(), torch.where(LABELS == 2, -1, LABELS)),
    "shared-labels": (SharedLabels(), SEVERAL),
    "soft-labels": (SoftLabels(_ALIKE), LABELS),
}


def rows(number: int = len(LABELS), dim: int = 4) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def masks(relation: Relation, target: Tensor) -> list[tuple[Alike, Alike]]:
    """Who is alike and who is different at each level, asked pair by pair."""
    found = []
    for positive, negative in relation.masks(target, target):
        found.append(
            (lambda a, b, mask=positive: bool(mask[a, b]), lambda a, b, mask=negative: a != b and bool(mask[a, b]))
        )
    return found


def expected(case: Case, emb_BD: Tensor, relation: Relation, target: Tensor) -> Tensor:
    seen_BD = torch.nn.functional.normalize(emb_BD, dim=1) if case.unit else emb_BD
    return torch.stack(
        [
            level.weight * case.oracle(seen_BD, alike, different)
            for level, (alike, different) in zip(relation.levels, masks(relation, target), strict=True)
        ]
    ).sum()


@pytest.mark.parametrize("carried", ["whole", "in blocks", "pair by pair"])
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name: str, relation: str, carried: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if carried != "whole":
        monkeypatch.setattr(pair_blocks, "_BLOCK_NUMBERS", 1)
        monkeypatch.setattr(pair_blocks, "_SPARSE", 1 if carried == "pair by pair" else 10**9)
    reads, target = RELATIONS[relation]
    emb_BD, copy_BD = rows().requires_grad_(), rows().requires_grad_()
    loss = CASES[name].loss(emb_BD, target, relation=reads)
    wanted = expected(CASES[name], copy_BD, reads, target)
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-12)
    assert wanted.item() > 0
    (grad_BD,) = torch.autograd.grad(loss, emb_BD)
    (wanted_BD,) = torch.autograd.grad(wanted, copy_BD)
    torch.testing.assert_close(grad_BD, wanted_BD, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_levels_of_a_hierarchy_add_up(name: str) -> None:
    target, relation = torch.stack([LABELS, SUPER], 1), Hierarchy((1.0, 0.25))
    loss = CASES[name].loss
    fine, coarse = (loss(rows(), level) for level in (LABELS, SUPER))
    torch.testing.assert_close(loss(rows(), target, relation=relation), fine + 0.25 * coarse)
    torch.testing.assert_close(loss(rows(), target, relation=relation), expected(CASES[name], rows(), relation, target))


@pytest.mark.parametrize("name", CASES)
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    shuffled = CASES[name].loss(rows()[order], LABELS[order])
    torch.testing.assert_close(shuffled, CASES[name].loss(rows(), LABELS))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0], [0], [-1, -1, -1]], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_batches_without_a_side_are_finite_and_in_the_graph(name: str, labels: list[int]) -> None:
    emb_BD = rows(len(labels)).float().requires_grad_()
    loss = CASES[name].loss(emb_BD, torch.tensor(labels))
    loss.backward()
    assert loss.isfinite()
    assert emb_BD.grad is not None and emb_BD.grad.isfinite().all()
    if len(labels) == 1:
        assert loss == 0 and not emb_BD.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_extreme_input_stays_finite(name: str, dtype: torch.dtype) -> None:
    row = rows()[0]
    longest = 1e3 if dtype == torch.float16 or not CASES[name].unit else 1e30
    parts = [row, row, -row, 0 * row, row * longest, -row * longest, row, row, -row]
    emb_BD = torch.stack(parts).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = CASES[name].loss(emb_BD, LABELS)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert emb_BD.grad is not None and emb_BD.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case.loss, PairLoss)])
def test_weights_of_samples_equal_repeated_ones(name: str) -> None:
    """A weight of 0 takes an anchor out; it is still somebody's positive or negative."""
    loss = CASES[name].loss
    assert isinstance(loss, PairLoss)
    weight_B = torch.ones(len(LABELS), dtype=torch.float64)
    torch.testing.assert_close(loss(rows(), LABELS, sample_weight_B=weight_B), loss(rows(), LABELS))
    weight_B[2:] = 0
    sums = pairs.pair_sums(loss, rows()[:2], LABELS[:2], rows(), LABELS)
    torch.testing.assert_close(loss(rows(), LABELS, sample_weight_B=weight_B), sums.loss(sums.count_P))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case.loss, PairLoss)])
def test_anchors_in_parts_add_up_to_the_whole(name: str) -> None:
    loss = CASES[name].loss
    assert isinstance(loss, PairLoss)
    whole = pairs.pair_sums(loss, rows(), LABELS, rows(), LABELS)
    cuts = [0, 2, 3, 9]
    found = [
        pairs.pair_sums(loss, rows()[a:b], LABELS[a:b], rows(), LABELS, first=a) for a, b in itertools.pairwise(cuts)
    ]
    torch.testing.assert_close(torch.stack([part.total_P for part in found]).sum(0), whole.total_P)
    torch.testing.assert_close(torch.stack([part.count_P for part in found]).sum(0), whole.count_P)


def test_learned_scale_and_bias() -> None:
    loss = SigmoidPairs(5, -3).double()

    def value(log_scale: Tensor, bias: Tensor) -> Tensor:
        again = SigmoidPairs(5, -3).double()
        again.weights = lambda: (log_scale, bias)  # type: ignore[method-assign]
        return again(rows(), LABELS)

    given = tuple(weight.detach().clone().requires_grad_() for weight in loss.weights())
    assert torch.autograd.gradcheck(value, given)


def test_without_gradient_nothing_is_kept() -> None:
    emb_BD = rows().requires_grad_()
    with torch.no_grad():
        assert not Triplet()(emb_BD, LABELS).requires_grad
    assert not Triplet()(rows(), LABELS).requires_grad


def test_wrong_input_is_refused() -> None:
    with pytest.raises(DataError, match="expected int64"):
        SupCon()(rows(), LABELS[:3])
    with pytest.raises(DataError, match=r"expected int64 and \(9, 2\)"):
        SupCon()(rows(), LABELS, relation=Hierarchy())
    with pytest.raises(DataError, match="expected vectors"):
        SupCon()(rows(), LABELS, relation=SoftLabels())
    with pytest.raises(DataError, match="a similarity for every class"):
        SupCon()(rows(), LABELS + 1, relation=SoftLabels(_ALIKE))
    with pytest.raises(SpecError, match="above 0"):
        SupCon(temperature=0)
    with pytest.raises(SpecError, match="symmetric"):
        SoftLabels(torch.rand(3, 4))
