"""All ranks of many positives: equal to sorting everything, and to the way for few positives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.neighbors import binned, ranking, ranks, topk, whole


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """This way on sets small enough to check, in more than one block and tile."""
    monkeypatch.setattr(ranking, "_SMALL_WHOLE", 0)
    monkeypatch.setattr(whole, "_FEW", -1)
    monkeypatch.setattr(binned, "_ROWS", 70)
    monkeypatch.setattr(binned, "_COLUMNS", 128)


def clustered(items: int, classes: int, noise: float, seed: int = 0, dim: int = 16):
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.randint(classes, (items,), generator=generator)
    centre_CD = torch.randn(classes, dim, generator=generator)
    return centre_CD[label_N] + noise * torch.randn(items, dim, generator=generator), label_N


def from_sorting(query_QD, query_label_Q, gallery_ND, gallery_label_N, exclude=None, metric="cosine"):
    """(query, rank) of every positive, from the complete sorted list of neighbours."""
    k = len(gallery_ND) - (exclude is not None)
    _, index_QK = topk(query_QD, gallery_ND, k, exclude=exclude, metric=metric)
    return (gallery_label_N[index_QK] == query_label_Q[:, None]).nonzero() + torch.tensor([0, 1])


def listed(result):
    return torch.stack([result.query_P(), result.rank_P], 1)


def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls, inner = [], binned.all_ranks
    monkeypatch.setattr(binned, "all_ranks", lambda sides: (calls.append(1), inner(sides))[1])
    return calls


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize(("items", "classes", "noise"), [(600, 20, 2.5), (601, 300, 1.0), (900, 30, 0.05)])
def test_equal_to_sorting_leave_one_out(forced, monkeypatch, items, classes, noise, metric):
    emb_ND, label_N = clustered(items, classes, noise)
    calls = used(monkeypatch)
    found = ranks(emb_ND, label_N, metric=metric)
    assert calls
    assert torch.equal(listed(found), from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(items), metric))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_equal_to_sorting_with_a_gallery_and_queries_without_match(forced, metric):
    query_QD, query_label_Q = clustered(150, 30, 2.0, seed=1)
    gallery_ND, gallery_label_N = clustered(700, 20, 2.0, seed=2)
    exclude_Q = torch.arange(150) - 50
    exclude_Q[exclude_Q < 0] = -1
    found = ranks(query_QD, query_label_Q, gallery_ND, gallery_label_N, exclude=exclude_Q, metric=metric)
    whole_list = from_sorting(query_QD, query_label_Q, gallery_ND, gallery_label_N, metric=metric)
    expected = []
    _, index_QK = topk(query_QD, gallery_ND, 700, metric=metric)
    for query, rank in whole_list.tolist():
        left_out = int(exclude_Q[query])
        place = (index_QK[query] == left_out).nonzero()
        before = int(place) + 1 if left_out >= 0 else 10**9
        if rank != before:
            expected.append([query, rank - (rank > before)])
    assert listed(found).tolist() == expected


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_ties_everywhere(seed, classes, values):
    """Vectors of small integers and copies: most scores equal a positive's."""
    generator = torch.Generator().manual_seed(seed)
    emb_ND = torch.randint(-values, values + 1, (130, 4), generator=generator).float()
    emb_ND[emb_ND.abs().sum(1) == 0] = 1
    label_N = torch.randint(classes * 3, (130,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_SMALL_WHOLE", 0)
        patch.setattr(whole, "_FEW", -1)
        patch.setattr(ranking, "_holdable", lambda *_: True)
        patch.setattr(binned, "_ROWS", 33)
        patch.setattr(binned, "_COLUMNS", 50)
        found = ranks(emb_ND, label_N)
    assert torch.equal(listed(found), from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(130)))


def test_all_vectors_equal(forced):
    """Then the gallery's order alone decides."""
    emb_ND, label_N = torch.ones(400, 5), torch.arange(400) % 40
    assert torch.equal(
        listed(ranks(emb_ND, label_N)), from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(400))
    )


def test_the_way_follows_the_number_of_positives(monkeypatch):
    calls = used(monkeypatch)
    emb_ND, label_N = clustered(1500, 400, 1.0)
    ranks(emb_ND, label_N)
    assert not calls
    emb_ND, label_N = clustered(1500, 40, 1.0)
    one = ranks(emb_ND, label_N)
    assert calls
    monkeypatch.setattr(whole, "_FEW", 10**6)
    assert torch.equal(one.rank_P, ranks(emb_ND, label_N).rank_P)
