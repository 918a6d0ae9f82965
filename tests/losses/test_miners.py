"""What each miner chooses, against a search through all pairs and triplets."""

import math
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor

from kinsight.losses import (
    Angular,
    Block,
    Consecutive,
    Contrastive,
    DistanceWeighted,
    HardPairs,
    Miner,
    MultiSimilarityPairs,
    PairLoss,
    Part,
    SemiHard,
    SupCon,
    Triplet,
    pair_blocks,
)

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 1, 0, 2])
Chosen = set[tuple[int, int, int]]


def rows(dim: int = 4) -> Tensor:
    emb_BD = torch.randn(len(LABELS), dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.nn.functional.normalize(emb_BD, dim=1)


class Seen(PairLoss):
    """Keeps the blocks it is shown."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def parts(self, block: Block) -> tuple[Part, ...]:
        self.blocks.append(block)
        total_A = block.dot_AB.sum(1)
        return (Part(total_A, torch.ones_like(total_A)),)


def blocks(miner: Miner, emb_BD: Tensor, labels: Tensor = LABELS) -> list[Block]:
    seen = Seen()
    seen(emb_BD, labels, miner=miner)
    return seen.blocks


def triplets(miner: Miner, emb_BD: Tensor, labels: Tensor = LABELS) -> Chosen:
    found: Chosen = set()
    for block in blocks(miner, emb_BD, labels):
        assert block.triplets is not None
        chosen = (block.own_A[block.triplets.anchor_T], block.triplets.positive_T, block.triplets.negative_T)
        found |= set(zip(*(each.tolist() for each in chosen), strict=True))
    return found


def pairs_of(miner: Miner, emb_BD: Tensor) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    positive, negative = set(), set()
    for block in blocks(miner, emb_BD):
        for mask, found in ((block.positive_AB, positive), (block.negative_AB, negative)):
            found |= {(int(block.own_A[a]), int(b)) for a, b in mask.nonzero()}
    return positive, negative


def _positive_pairs() -> Iterator[tuple[int, int]]:
    return ((a, p) for a, p in product(range(len(LABELS)), repeat=2) if a != p and LABELS[a] == LABELS[p])


def _negatives(a: int) -> list[int]:
    return [n for n in range(len(LABELS)) if LABELS[n] != LABELS[a]]


def _distance(emb_BD: Tensor, a: int, b: int) -> float:
    return float((emb_BD[a] - emb_BD[b]).norm())


@pytest.fixture(params=[1, 1 << 21], ids=["blocks", "whole"], autouse=True)
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_blocks, "_BLOCK_NUMBERS", request.param)


def test_hard() -> None:
    emb_BD = rows()
    positive, negative = pairs_of(HardPairs(), emb_BD)
    by_anchor = {a: [p for other, p in _positive_pairs() if other == a] for a in range(len(LABELS))}
    assert positive == {(a, max(ps, key=lambda p: _distance(emb_BD, a, p))) for a, ps in by_anchor.items() if ps}
    assert negative == {(a, min(_negatives(a), key=lambda n: _distance(emb_BD, a, n))) for a in range(len(LABELS))}


def test_semi_hard() -> None:
    emb_BD = rows()
    expected = set()
    for a, p in _positive_pairs():
        farther = [n for n in _negatives(a) if _distance(emb_BD, a, n) > _distance(emb_BD, a, p)]
        if farther:
            expected.add((a, p, min(farther, key=lambda n: _distance(emb_BD, a, n))))
    assert triplets(SemiHard(), emb_BD) == expected
    assert 0 < len(expected) < len(list(_positive_pairs())), "some pairs have one, some have none"


def test_multi_similarity_is_the_peers() -> None:
    emb_BD = rows()
    a1, p, a2, n = MultiSimilarityMiner(epsilon=0.1)(emb_BD, LABELS)
    positive, negative = pairs_of(MultiSimilarityPairs(0.1), emb_BD)
    assert positive == set(zip(a1.tolist(), p.tolist(), strict=True))
    # the peer also lists negatives of anchors without a positive as none; so do we
    assert negative == set(zip(a2.tolist(), n.tolist(), strict=True))
    assert 0 < len(negative) < sum(len(_negatives(a)) for a in range(len(LABELS)))


def test_angular() -> None:
    emb_BD = rows()
    expected, widest = set(), []
    for a, p in _positive_pairs():
        centre = (emb_BD[a] + emb_BD[p]) / 2
        angles = {
            n: math.degrees(math.atan(_distance(emb_BD, a, p) / 2 / float((emb_BD[n] - centre).norm())))
            for n in _negatives(a)
        }
        best = max(angles, key=lambda n: angles[n])
        widest.append(angles[best])
        if angles[best] > 55:
            expected.add((a, p, best))
    assert triplets(Angular(55), emb_BD) == expected
    assert min(widest) < 55 < max(widest)


def test_distance_weighted_draws_by_density() -> None:
    """For one anchor, many draws: frequencies against the formula."""
    dim, emb_BD = 6, rows(6)
    torch.manual_seed(0)
    counts = torch.zeros(len(LABELS), len(LABELS))
    for _ in range(1000):
        for a, _p, n in triplets(DistanceWeighted(farthest=1.7), emb_BD):
            counts[a, n] += 1
    anchor = 3  # with one positive, so that no two of its draws are the same triplet
    weights = torch.zeros(len(LABELS))
    for n in _negatives(anchor):
        d = max(_distance(emb_BD, anchor, n), 0.5)
        if d < 1.7:
            weights[n] = d ** (2 - dim) * (1 - d * d / 4) ** (-(dim - 3) / 2)
    assert (weights > 0).sum() >= 3
    share = weights / weights.sum()
    drawn = counts[anchor] / counts[anchor].sum()
    torch.testing.assert_close(drawn, share, atol=0.05, rtol=0)
    assert ((drawn > 0) == (share > 0)).all()


def test_distance_weighted_takes_any_negative_where_all_are_far() -> None:
    emb_BD = torch.eye(len(LABELS), dtype=torch.float64)  # all distances are 1.414
    found = triplets(DistanceWeighted(), emb_BD)
    assert {(a, p) for a, p, _ in found} == set(_positive_pairs())
    assert all(LABELS[a] != LABELS[n] for a, _, n in found)


def test_consecutive() -> None:
    labels = torch.tensor([0, 0, 1, 2, 2, 0, 3, 1, 0, 1])
    assert triplets(Consecutive(), rows(), labels) == {(0, 1, 2), (3, 4, 5)}, "3, 1, 0 is no triplet"


@pytest.mark.parametrize("missing", range(12))
def test_consecutive_goes_on_behind_a_missing_image(missing: int) -> None:
    labels = torch.tensor([0, 0, 1, 2, 2, 0, 3, 3, 1, 4, 4, 3])
    kept = torch.arange(12) != missing
    emb_BD = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = triplets(Consecutive(), emb_BD[kept], labels[kept])
    number = torch.arange(12)[kept]
    triples = [tuple(number[list(triple)].tolist()) for triple in found]
    whole = {(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)}
    assert len(whole & set(triples)) >= 2
    assert all(labels[a] == labels[p] != labels[n] for a, p, n in triples)


@pytest.mark.parametrize("miner", [HardPairs(), SemiHard(), DistanceWeighted(), MultiSimilarityPairs(), Angular()])
@pytest.mark.parametrize("loss", [Triplet(1.0), Contrastive(0.0, 1.9), SupCon()])
@pytest.mark.parametrize("labels", [[0] * 10, list(range(10)), LABELS.tolist()], ids=["one", "none", "some"])
def test_losses_take_what_miners_leave(miner: Miner, loss: PairLoss, labels: list[int]) -> None:
    emb_BD = rows().requires_grad_()
    value = loss(emb_BD, torch.tensor(labels), miner=miner)
    value.backward()
    assert value.isfinite() and emb_BD.grad is not None and emb_BD.grad.isfinite().all()
    if labels == LABELS.tolist():
        assert value > 0 and emb_BD.grad.any()


def test_triplets_chosen_equal_the_mean_over_them() -> None:
    emb_BD = rows()
    chosen = triplets(SemiHard(), emb_BD)
    values = [max(0.0, _distance(emb_BD, a, p) ** 2 - _distance(emb_BD, a, n) ** 2 + 0.3) for a, p, n in sorted(chosen)]
    expected = sum(values) / len(values)
    assert Triplet(0.3, mean_over="all")(emb_BD, LABELS, miner=SemiHard()).item() == pytest.approx(expected)
