import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.errors import DataError, SpecError
from kinsight.neighbors import pair_similarity, topk


def vectors(items: int, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(seed))


def naive(query_QD, gallery_ND, k, metric, exclude=None):
    query_QD, gallery_ND = query_QD.double(), gallery_ND.double()
    if metric == "cosine":
        query_QD = query_QD / query_QD.norm(dim=1, keepdim=True)
        gallery_ND = gallery_ND / gallery_ND.norm(dim=1, keepdim=True)
    score_QN = query_QD @ gallery_ND.T if metric != "l2" else -torch.cdist(query_QD, gallery_ND).square()
    if exclude is not None:
        score_QN[torch.arange(len(query_QD)), exclude] = -torch.inf
    index_QK = [sorted(range(len(gallery_ND)), key=lambda g: (-float(row[g]), g))[:k] for row in score_QN]
    index_QK = torch.tensor(index_QK)
    return score_QN.gather(1, index_QK), index_QK


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("k", [1, 7, 50])
def test_equals_sorting_in_float64(metric, k):
    query_QD, gallery_ND = vectors(20, seed=1), vectors(50, seed=2)
    value_QK, index_QK = topk(query_QD, gallery_ND, k, metric=metric)
    expected_value_QK, expected_index_QK = naive(query_QD, gallery_ND, k, metric)
    assert torch.equal(index_QK, expected_index_QK)
    assert value_QK.dtype == torch.float32
    assert torch.allclose(value_QK.double(), expected_value_QK, atol=1e-5)


def test_leave_one_out_never_returns_the_query():
    emb_ND = vectors(40)
    _, index_QK = topk(emb_ND, emb_ND, 39, exclude=torch.arange(40))
    assert torch.equal(index_QK, naive(emb_ND, emb_ND, 39, "cosine", torch.arange(40))[1])
    assert not (index_QK == torch.arange(40)[:, None]).any()


def test_exclude_minus_one_leaves_nothing_out():
    emb_ND = vectors(10)
    exclude = torch.full((10,), -1)
    exclude[3] = 3
    _, index_QK = topk(emb_ND, emb_ND, 1, exclude=exclude)
    assert index_QK.squeeze(1).tolist()[:3] == [0, 1, 2]
    assert int(index_QK[3]) != 3


def test_ties_go_to_the_lower_index():
    gallery_ND = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    _, index_QK = topk(torch.tensor([[1.0, 0.0]]), gallery_ND, 4)
    assert index_QK.tolist() == [[1, 2, 3, 0]]
    _, index_QK = topk(torch.ones(3, 4), torch.ones(9, 4), 5)
    assert index_QK.tolist() == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("memory_bytes", [2000, 2**14, 2**27])
def test_any_block_size_gives_the_same_bits(metric, memory_bytes):
    query_QD, gallery_ND = vectors(60, 48, 3), vectors(90, 48, 4)
    gallery_ND[50:60] = gallery_ND[:10]
    expected = topk(query_QD, gallery_ND, 20, metric=metric)
    found = topk(query_QD, gallery_ND, 20, metric=metric, memory_bytes=memory_bytes)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), metric=st.sampled_from(["cosine", "ip", "l2"]))
def test_permuting_the_gallery_finds_the_same_items(seed, metric):
    query_QD, gallery_ND = vectors(8, seed=seed), vectors(30, seed=seed + 1)
    order_N = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    value_QK, index_QK = topk(query_QD, gallery_ND, 10, metric=metric)
    other_value_QK, other_index_QK = topk(query_QD, gallery_ND[order_N], 10, metric=metric)
    assert torch.equal(value_QK, other_value_QK)
    assert torch.equal(index_QK, order_N[other_index_QK])


def test_same_neighbours_as_faiss():
    faiss = pytest.importorskip("faiss")
    query_QD, gallery_ND = vectors(30, 32, 5), vectors(500, 32, 6)
    index = faiss.IndexFlatL2(32)
    index.add(gallery_ND.numpy())
    distance_QK, index_QK = index.search(query_QD.numpy(), 10)
    value_QK, ours_QK = topk(query_QD, gallery_ND, 10, metric="l2")
    assert torch.equal(ours_QK, torch.from_numpy(index_QK))
    assert torch.allclose(-value_QK, torch.from_numpy(distance_QK), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(dtype):
    emb_ND = vectors(20).to(dtype)
    expected = naive(emb_ND, emb_ND, 5, "cosine", torch.arange(20))[1]
    assert torch.equal(topk(emb_ND, emb_ND, 5, exclude=torch.arange(20))[1], expected)


def test_lengths_from_tiny_to_huge():
    emb_ND = vectors(20) * torch.logspace(-30, 30, 20)[:, None]
    assert torch.equal(topk(emb_ND, emb_ND, 5)[1], naive(emb_ND, emb_ND, 5, "cosine")[1])


def test_pair_similarity_equals_topk():
    emb_ND = vectors(20)
    value_QK, index_QK = topk(emb_ND, emb_ND, 3)
    pair_P2 = torch.stack([torch.arange(20).repeat_interleave(3), index_QK.reshape(-1)], 1)
    assert torch.equal(pair_similarity(emb_ND, pair_P2), value_QK.reshape(-1))


@pytest.mark.parametrize("k", [0, 11])
def test_k_outside_the_gallery_is_refused(k):
    with pytest.raises(DataError, match=f"k={k}"):
        topk(vectors(3), vectors(10), k)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_names_the_row(bad):
    gallery_ND = vectors(10)
    gallery_ND[7, 2] = bad
    with pytest.raises(DataError, match="gallery row 7"):
        topk(vectors(3), gallery_ND, 2)


def test_a_zero_vector_has_no_cosine():
    emb_ND = vectors(5)
    emb_ND[2] = 0
    with pytest.raises(DataError, match="row 2 is a zero vector"):
        topk(emb_ND, emb_ND, 2)
    assert topk(emb_ND, emb_ND, 1, metric="l2")[1].squeeze(1).tolist() == [0, 1, 2, 3, 4]


def test_wrong_shapes_and_metrics_are_refused():
    with pytest.raises(DataError, match="16 dimensions"):
        topk(vectors(3), vectors(5, 8), 1)
    with pytest.raises(DataError, match="shape"):
        topk(torch.arange(6).reshape(2, 3), torch.arange(6).reshape(2, 3), 1)
    with pytest.raises(SpecError, match="metric"):
        topk(vectors(3), vectors(5), 1, metric="euclid")  # type: ignore[arg-type]
