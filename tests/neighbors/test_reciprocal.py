"""k-reciprocal re-ranking against the paper, written out densely in float64."""

import numpy as np
import pytest
import torch
from published_rerank import final_distances, squared_distances

from kinsight.errors import DataError, SpecError
from kinsight.neighbors import k_reciprocal, nearest, reciprocal, topk


def clusters(classes: int, each: int, dim: int = 8, spread: float = 0.8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre_CD = torch.randn(classes, dim, generator=generator)
    return centre_CD.repeat(each, 1) + spread * torch.randn(classes * each, dim, generator=generator)


def in_order(distance_QN: np.ndarray, by_search_QK: np.ndarray) -> np.ndarray:
    """The search's first K, ordered by distance; equal ones as the search has them."""
    rows = (
        sorted(range(by_search_QK.shape[1]), key=lambda place: distance_N[found_K[place]])
        for distance_N, found_K in zip(distance_QN, by_search_QK, strict=True)
    )
    return np.stack([found_K[list(row)] for row, found_K in zip(rows, by_search_QK, strict=True)])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (7, 1, 0.0), (6, 6, 0.9), (1, 1, 0.3)])
@pytest.mark.parametrize("depth", [1, 10, 500])
def test_leave_one_out_is_the_papers_order(metric, k1: int, k2: int, weight: float, depth: int):
    emb_ND = clusters(12, 9)
    found = k_reciprocal(emb_ND, k1=k1, k2=k2, weight=weight, depth=depth, metric=metric)
    distance_NN = final_distances(emb_ND.numpy(), k1, k2, weight, metric)
    depth = min(depth, len(emb_ND) - 1)
    _, index_NK = topk(emb_ND, emb_ND, depth, metric=metric, exclude=torch.arange(len(emb_ND)))
    value_NK = np.take_along_axis(distance_NN, found.index_QK.numpy(), 1)
    assert np.allclose(found.distance_QK.numpy(), value_NK, atol=1e-6)
    assert np.allclose(value_NK, np.sort(np.take_along_axis(distance_NN, index_NK.numpy(), 1), 1), atol=1e-6)
    assert torch.equal(index_NK.gather(1, found.place_QK.argsort(1)), found.index_QK)


def test_queries_and_gallery_are_one_set():
    query_QD, gallery_ND = clusters(12, 2, seed=1), clusters(12, 8, seed=2)
    found = k_reciprocal(query_QD, gallery_ND, k1=15, k2=4, depth=40)
    distance_UU = final_distances(torch.cat([query_QD, gallery_ND]).numpy(), 15, 4, 0.3)
    distance_QN = distance_UU[: len(query_QD), len(query_QD) :]
    _, index_QK = topk(query_QD, gallery_ND, 40)
    assert np.array_equal(found.index_QK.numpy(), in_order(distance_QN, index_QK.numpy()))
    assert np.allclose(found.distance_QK.numpy(), np.take_along_axis(distance_QN, found.index_QK.numpy(), 1), atol=1e-6)


def test_equal_distances_keep_the_searchs_order():
    """Far candidates share no neighbour with the query: with weight 0 all their distances are 1."""
    emb_ND = clusters(10, 6, spread=0.01)
    found = k_reciprocal(emb_ND, k1=5, k2=2, weight=0.0, depth=59)
    _, index_NK = topk(emb_ND, emb_ND, 59, exclude=torch.arange(60))
    assert (found.distance_QK[:, 5:] == 1).all()
    assert torch.equal(found.index_QK[:, 5:], index_NK[:, 5:])


def test_duplicates_and_identical_vectors():
    emb_ND = clusters(6, 5)
    emb_ND[3] = emb_ND[4] = emb_ND[20]
    found = k_reciprocal(emb_ND, k1=4, k2=2, depth=29)
    assert found.distance_QK.isfinite().all()
    assert (found.index_QK.sort(1).values == torch.tensor([[g for g in range(30) if g != p] for p in range(30)])).all()
    same = k_reciprocal(torch.ones(8, 3), k1=3, k2=2, depth=7)
    assert same.distance_QK.isfinite().all()


@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_and_threads_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch):
    emb_ND = clusters(40, 10, dim=16)
    expected = k_reciprocal(emb_ND, depth=50)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    monkeypatch.setattr(reciprocal, "_CELLS", 4000)
    told: list[int] = []
    try:
        found = k_reciprocal(emb_ND, depth=50, advance=told.append)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.index_QK, expected.index_QK)
    assert torch.equal(found.distance_QK, expected.distance_QK)
    assert sum(told) == 4 * len(emb_ND)


def test_candidates_of_another_search():
    """Their similarities, not those of the set, give the distance in the last formula."""
    emb_ND, other_ND = clusters(12, 9), clusters(12, 9, seed=5)
    candidates = nearest(emb_ND, other_ND, 30, exclude=torch.arange(108))
    found = k_reciprocal(emb_ND, candidates=candidates, weight=0.5)
    jaccard_NN = 2 * final_distances(emb_ND.numpy(), 20, 6, 0.5) - squared_distances(emb_ND.numpy(), "cosine") / (
        squared_distances(emb_ND.numpy(), "cosine").max(1, keepdims=True)
    )
    largest_N1 = squared_distances(emb_ND.numpy(), "cosine").max(1, keepdims=True)
    index_NK = candidates.index_QK.numpy()
    direct_NK = (2 - 2 * candidates.similarity_QK.numpy()) / largest_N1
    expected_NK = 0.5 * np.take_along_axis(jaccard_NN, index_NK, 1) + 0.5 * direct_NK
    assert np.allclose(found.distance_QK.numpy(), np.sort(expected_NK, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 30}, "k1=30: must be from 1 to 29"),
        ({"k1": 0}, "k1=0"),
        ({"k2": 21}, "k2=21: must be from 1 to k1=20"),
        ({"weight": 1.1}, "weight=1.1"),
        ({"depth": 0}, "depth=0"),
        ({"metric": "ip"}, "an inner product is no distance"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str):
    with pytest.raises(SpecError, match=message):
        k_reciprocal(clusters(6, 5), **settings)


def test_not_a_number():
    emb_ND = clusters(6, 5)
    emb_ND[7, 3] = float("nan")
    with pytest.raises(DataError, match="row 7 holds NaN"):
        k_reciprocal(emb_ND)
