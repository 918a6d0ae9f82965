"""Positives of different weight against loops in float64; what is no number is seen by every loss."""

import math

import pytest
import torch
from pair_oracles import CASES
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.losses import (
    Angular,
    Block,
    Contrastive,
    InfoNCE,
    MultiSimilarity,
    PairLoss,
    Part,
    Quadruplet,
    SemiHard,
    SigmoidPairs,
    SmoothAP,
    SupCon,
    Triplet,
    pair_blocks,
)
from kinsight.relations import SharedLabels, SoftLabels

_ALIKE = torch.tensor(
    [[1.0, 0.8, 0.4, 0.1], [0.8, 1, 0.2, 0.0], [0.4, 0.2, 1, 0.75], [0.1, 0.0, 0.75, 1]], dtype=torch.float64
)
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 1, 0])
WEIGHTED: list[PairLoss] = [
    Contrastive(margin=1.2), MultiSimilarity(), InfoNCE(0.2), SupCon(0.2), SigmoidPairs(5.0, -3.0)
]  # fmt: skip


def rows() -> Tensor:
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def oracle(loss: PairLoss, rows_BD: Tensor) -> Tensor:
    unit_BD = torch.nn.functional.normalize(rows_BD, dim=1)
    s_BB, alike_BB = unit_BD @ unit_BD.T, _ALIKE[LABELS][:, LABELS]
    own = torch.eye(9, dtype=torch.bool)
    positive, negative = (alike_BB >= 0.7) & ~own, (alike_BB < 0.3) & ~own
    w_BB, log = alike_BB * positive, torch.log
    match loss:
        case Contrastive():
            d_BB = (2 - 2 * s_BB).clamp_min(1e-12).sqrt()
            active = negative & (d_BB < loss.margin)
            return (d_BB * w_BB).sum() / w_BB.sum() + ((loss.margin - d_BB) * active).sum() / active.sum()
        case MultiSimilarity():
            near = (w_BB * torch.exp(-2 * (s_BB - 0.5))).sum(1)
            far = (negative * torch.exp(50 * (s_BB - 0.5))).sum(1)
            return (log(1 + near) / 2 + log(1 + far) / 50).mean()
        case InfoNCE():
            e_BB = torch.exp(s_BB / loss.temperature)
            far_B1 = (negative * e_BB).sum(1, keepdim=True)
            return (-log(e_BB / (e_BB + far_B1)) * w_BB).sum() / w_BB.sum()
        case SupCon():
            e_BB = torch.exp(s_BB / loss.temperature)
            share = -log(e_BB / ((positive | negative) * e_BB).sum(1, keepdim=True))
            has = positive.any(1)
            return ((share * w_BB).sum(1)[has] / w_BB.sum(1)[has]).mean()
        case _:
            z_BB = math.exp(float(torch.tensor(math.log(5.0)))) * s_BB - 3
            yes, no = -log(torch.sigmoid(z_BB)), -log(torch.sigmoid(-z_BB))
            return ((w_BB * yes + (positive * (1 - w_BB) + negative) * no).sum(1)).mean()


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("loss", WEIGHTED, ids=lambda loss: type(loss).__name__)
def test_positives_weigh_by_their_likeness(loss: PairLoss, in_blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_blocks:
        monkeypatch.setattr(pair_blocks, "_BLOCK_NUMBERS", 1)
    emb_BD, copy_BD = rows().requires_grad_(), rows().requires_grad_()
    found = loss(emb_BD, LABELS, relation=SoftLabels(_ALIKE.float(), weighted=True))
    wanted = oracle(loss, copy_BD)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)  # likenesses are float32
    unweighted = loss(rows(), LABELS, relation=SoftLabels(_ALIKE.float()))
    assert abs(found.item() - unweighted.item()) > 1e-5
    (grad_BD,), (wanted_BD,) = torch.autograd.grad(found, emb_BD), torch.autograd.grad(wanted, copy_BD)
    torch.testing.assert_close(grad_BD, wanted_BD, rtol=1e-5, atol=1e-7)


def test_sets_of_labels_weigh_by_their_index() -> None:
    target = torch.tensor([[0, 1], [0, 1], [0, -1], [2, -1]])
    loss, emb_BD = SupCon(), rows()[:4]
    equal = loss(emb_BD[:2].repeat(2, 1), target[[0, 0, 1, 1]], relation=SharedLabels(weighted=True))
    assert torch.isclose(equal, loss(emb_BD[:2].repeat(2, 1), target[[0, 0, 1, 1]], relation=SharedLabels()))
    assert not torch.isclose(
        loss(emb_BD, target, relation=SharedLabels(weighted=True)), loss(emb_BD, target, relation=SharedLabels())
    )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case.loss, PairLoss)])
def test_losses_without_weights_refuse_weighted_relations(name: str) -> None:
    loss, relation = CASES[name].loss, SoftLabels(_ALIKE.float(), weighted=True)
    assert isinstance(loss, PairLoss)
    if loss.weighs_positives:
        assert loss(rows(), LABELS, relation=relation).isfinite()
    else:
        with pytest.raises(SpecError, match="no weights of pairs"):
            loss(rows(), LABELS, relation=relation)


def test_quadruplet_has_no_weights() -> None:
    with pytest.raises(SpecError, match="no weights of pairs"):
        Quadruplet()(rows(), LABELS, relation=SoftLabels(_ALIKE.float(), weighted=True))


def test_likeness_of_label_sets_against_python_sets() -> None:
    generator = torch.Generator().manual_seed(3)
    one, other = (torch.randint(-1, 9, (7, 3), generator=generator) for _ in range(2))
    found = SharedLabels().similarity(one, other)
    for a in range(7):
        for b in range(7):
            first, second = ({int(x) for x in each if x >= 0} for each in (one[a], other[b]))
            wanted = len(first & second) / max(len(first | second), 1)
            assert float(found[a, b]) == pytest.approx(wanted)
    nothing = torch.full((2, 3), -1)
    assert not SharedLabels().similarity(nothing, other).any()


@pytest.mark.parametrize("miner", [None, SemiHard(), Angular()], ids=lambda miner: type(miner).__name__)
@pytest.mark.parametrize("name", CASES)
def test_what_is_no_number_makes_the_loss_none(name: str, miner: object) -> None:
    emb_BD = rows()
    emb_BD[4] = torch.nan
    loss = CASES[name].loss
    if isinstance(loss, PairLoss) and miner is not None:
        found = loss(emb_BD, LABELS, miner=miner)  # type: ignore[arg-type]
    else:
        found = loss(emb_BD, LABELS)
    assert not found.isfinite()


def test_long_rows_are_numbers_still() -> None:
    assert Triplet()(rows().float() * 1e37, LABELS).isfinite()


def test_memory_does_not_follow_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of many rows behind many of one: no block holds rows x columns x positives beyond what it may."""
    monkeypatch.setattr(pair_blocks, "_BLOCK_NUMBERS", 1 << 14)
    seen = []

    class Watched(SmoothAP):
        def parts(self, block: Block) -> tuple[Part, ...]:
            seen.append(block.dot_AB.numel() * max(block.slots.column_AK.shape[1], 1))
            return super().parts(block)

    label_B = torch.cat([torch.arange(200), torch.full((56,), 999)])
    emb_BD = torch.randn(256, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = Watched()(emb_BD, label_B)
    assert max(seen) <= max(1 << 14, 256 * 55)
    torch.testing.assert_close(found, SmoothAP()(emb_BD.flip(0), label_B.flip(0)))
