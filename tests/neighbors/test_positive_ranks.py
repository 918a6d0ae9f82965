import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.errors import DataError
from kinsight.neighbors import coarse, counting, floors, ranking, ranks, scan, topk, whole


@pytest.fixture
def fast(monkeypatch):
    """The counting way on sets small enough to check."""
    monkeypatch.setattr(ranking, "_SMALL", 0)
    monkeypatch.setattr(ranking, "_SMALL_WHOLE", 0)
    monkeypatch.setattr(whole, "_ROWS", 90)
    monkeypatch.setattr(whole, "_COLUMNS", 256)
    for module in (scan, counting, ranking):
        monkeypatch.setattr(module, "TILE_COLUMNS", 256)
    monkeypatch.setattr(scan, "TILE_ROWS", 128)
    monkeypatch.setattr(floors, "_ROWS", 100)


def clustered(items, classes, noise, seed=0, dim=32):
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.randint(classes, (items,), generator=generator)
    centre_CD = torch.randn(classes, dim, generator=generator)
    return centre_CD[label_N] + noise * torch.randn(items, dim, generator=generator), label_N


def from_sorting(query_QD, query_label_Q, gallery_ND, gallery_label_N, exclude=None, metric="cosine"):
    """[(query, rank)] of every positive, from the complete sorted list of neighbours."""
    k = len(gallery_ND) - (exclude is not None)
    _, index_QK = topk(query_QD, gallery_ND, k, exclude=exclude, metric=metric)
    return (gallery_label_N[index_QK] == query_label_Q[:, None]).nonzero() + torch.tensor([0, 1])


def listed(result):
    return torch.stack([result.query_P(), result.rank_P], 1)


def cut(pair_P2, depth_Q, first_depth):
    first_P = torch.ones(len(pair_P2), dtype=torch.bool)
    first_P[1:] = pair_P2[1:, 0] != pair_P2[:-1, 0]
    keep_P = pair_P2[:, 1] <= depth_Q[pair_P2[:, 0]]
    return pair_P2[keep_P | (first_P & (pair_P2[:, 1] <= first_depth))]


SETS = [(600, 100, 1.0), (600, 20, 2.5), (601, 150, 6.0), (1000, 30, 0.1)]


@pytest.mark.parametrize(("items", "classes", "noise"), SETS)
@pytest.mark.parametrize(("depth", "first"), [(3, 20), (25, 25), (0, 5)])
def test_counting_equals_sorting_leave_one_out(fast, items, classes, noise, depth, first):
    emb_ND, label_N = clustered(items, classes, noise)
    every_P2 = from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(items))
    result = ranks(emb_ND, label_N, max_rank=depth, first_max_rank=first)
    assert torch.equal(listed(result), cut(every_P2, torch.full((items,), depth), first))
    assert torch.equal(result.positives_Q, torch.bincount(every_P2[:, 0], minlength=items))


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("queries", [5, 300])
def test_counting_equals_sorting_against_a_gallery(fast, metric, queries):
    emb_ND, label_N = clustered(1000 + queries, 40, 1.5, seed=2)
    query, gallery = (emb_ND[:queries], label_N[:queries]), (emb_ND[queries:], label_N[queries:])
    exclude = torch.arange(queries) * 3 - 1
    depth_Q = torch.arange(queries) % 30
    every_P2 = from_sorting(*query, *gallery, None, metric)
    result = ranks(*query, *gallery, metric=metric, max_rank=depth_Q, first_max_rank=12)
    assert torch.equal(listed(result), cut(every_P2, depth_Q, 12))
    exclude[0] = 5
    every_P2 = from_sorting(*query, *gallery, exclude, metric)
    result = ranks(*query, *gallery, metric=metric, exclude=exclude, max_rank=depth_Q, first_max_rank=12)
    assert torch.equal(listed(result), cut(every_P2, depth_Q, 12))


@pytest.mark.parametrize(("items", "classes", "noise"), SETS)
def test_counting_all_equals_sorting(fast, items, classes, noise):
    emb_ND, label_N = clustered(items, classes, noise, seed=3)
    label_N[:5] = torch.arange(5) + 10_000
    every_P2 = from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(items))
    assert torch.equal(listed(ranks(emb_ND, label_N)), every_P2)
    query, gallery = (emb_ND[:70], label_N[:70]), (emb_ND[70:], label_N[70:])
    exclude = torch.arange(70) - 1
    exclude[0] = 8
    assert torch.equal(listed(ranks(*query, *gallery, metric="ip")), from_sorting(*query, *gallery, metric="ip"))
    assert torch.equal(listed(ranks(*query, *gallery, exclude=exclude)), from_sorting(*query, *gallery, exclude))


def test_all_ranks_equal_sorting():
    emb_ND, label_N = clustered(300, 10, 2.0)
    every_P2 = from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(300))
    assert torch.equal(listed(ranks(emb_ND, label_N)), every_P2)
    assert torch.equal(listed(ranks(emb_ND, label_N, memory_bytes=4096)), every_P2)


@pytest.mark.parametrize("integers", [pytest.param(True, id="int8"), pytest.param(False, id="float32")])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_neither_arithmetic_nor_threads_matter(fast, monkeypatch, integers, threads):
    if integers and not coarse.has_int8(torch.device("cpu")):
        pytest.skip("this processor has no integer dot products")
    monkeypatch.setattr(coarse, "has_int8", lambda device: integers)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        emb_ND, label_N = clustered(900, 90, 2.0, seed=4)
        result = ranks(emb_ND, label_N, max_rank=20, first_max_rank=50)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    every_P2 = from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(900))
    assert torch.equal(listed(result), cut(every_P2, torch.full((900,), 20), 50))


@pytest.mark.parametrize("kind", ["all equal", "duplicates", "one-hot", "two points", "outliers", "small integers"])
def test_ties_and_odd_vectors(fast, kind):
    emb_ND, label_N = clustered(700, 35, 1.0, seed=5)
    if kind == "all equal":
        emb_ND = torch.ones_like(emb_ND)
    elif kind == "duplicates":
        emb_ND[350:] = emb_ND[:350].flip(0)
    elif kind == "one-hot":
        emb_ND = torch.eye(32)[torch.arange(700) % 32]
    elif kind == "two points":
        emb_ND = torch.where(torch.arange(700)[:, None] % 3 == 0, emb_ND[:1], emb_ND[1:2])
    elif kind == "outliers":
        emb_ND[:, 0] *= 1e4
    else:
        emb_ND = emb_ND.round()
        emb_ND[emb_ND.norm(dim=1) == 0, 0] = 1
    every_P2 = from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(700))
    result = ranks(emb_ND, label_N, max_rank=19, first_max_rank=60)
    assert torch.equal(listed(result), cut(every_P2, torch.full((700,), 19), 60))
    assert torch.equal(listed(ranks(emb_ND, label_N)), every_P2)


def test_near_ties_within_float32_are_ordered_exactly(fast):
    """Positives and negatives a few grid steps apart: float32 cannot tell them, the ranks can."""
    generator = torch.Generator().manual_seed(6)
    base_D = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0)
    emb_ND = base_D + torch.randint(-3, 4, (800, 64), generator=generator) * 2.0**-25
    label_N = torch.randint(60, (800,), generator=generator)
    every_P2 = from_sorting(emb_ND, label_N, emb_ND, label_N, torch.arange(800))
    result = ranks(emb_ND, label_N, max_rank=30, first_max_rank=100)
    assert torch.equal(listed(result), cut(every_P2, torch.full((800,), 30), 100))
    assert torch.equal(listed(ranks(emb_ND, label_N)), every_P2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), items=st.integers(2, 60), classes=st.integers(1, 8))
def test_a_cut_list_is_the_beginning_of_the_whole(seed, items, classes):
    emb_ND, label_N = clustered(items, classes, 2.0, seed)
    whole, short = ranks(emb_ND, label_N), ranks(emb_ND, label_N, max_rank=5)
    assert torch.equal(listed(short), listed(whole)[whole.rank_P <= 5])


def test_the_real_sizes_agree_with_sorting():
    """No shrunken tiles: a sample of queries of a set that takes the counting way by itself."""
    emb_ND, label_N = clustered(6000, 300, 2.5, seed=8, dim=48)
    result = ranks(emb_ND, label_N, max_rank=20, first_max_rank=100)
    some = torch.arange(0, 6000, 40)
    every_P2 = from_sorting(emb_ND[some], label_N[some], emb_ND, label_N, some)
    expected_P2 = cut(every_P2, torch.full((150,), 20), 100)
    found_P2 = listed(result)
    found_P2 = found_P2[torch.isin(found_P2[:, 0], some)]
    assert torch.equal(found_P2, torch.stack([some[expected_P2[:, 0]], expected_P2[:, 1]], 1))


def test_the_coarse_bound_holds():
    """No pair at or above its floor may stay below its coarse threshold."""
    emb_ND, _ = clustered(256, 8, 1.0, seed=9, dim=64)
    emb_ND[:, :4] *= 20  # uneven coordinates: the worst case for few bits
    emb_ND = torch.nn.functional.normalize(emb_ND)
    rows = coarse.encode(emb_ND, 64)
    everything = slice(0, 256)
    exact_QN = emb_ND.double() @ emb_ND.double().T
    score_QN = torch.empty(256, 256, dtype=rows.score_dtype)
    coarse.product(rows.code_ND, rows.code_ND, score_QN)
    for floor in (-0.5, 0.0, 0.3, 0.9):
        limit_Q = coarse.thresholds(rows, rows, everything, everything, torch.full((256,), floor).double())
        assert bool((score_QN >= limit_Q[:, None])[exact_QN >= floor].all())


def test_degenerate_sets():
    alone = ranks(torch.randn(1, 4), torch.tensor([3]))
    assert alone.rank_P.numel() == 0
    assert alone.positives_Q.tolist() == [0]
    none = ranks(torch.randn(3, 4), torch.arange(3), torch.randn(5, 4), torch.arange(5) + 10, max_rank=2)
    assert none.rank_P.numel() == 0
    one_class = ranks(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64))
    assert one_class.rank_P.tolist() == [1, 2, 3, 4, 5] * 6
    assert one_class.first_Q().tolist() == [1] * 6


def test_labels_are_checked():
    with pytest.raises(DataError, match="expected 4 integers"):
        ranks(torch.randn(4, 3), torch.arange(3))
    with pytest.raises(DataError, match="integers"):
        ranks(torch.randn(4, 3), torch.rand(4))
    with pytest.raises(DataError, match="together"):
        ranks(torch.randn(4, 3), torch.arange(4), torch.randn(4, 3))
    with pytest.raises(DataError, match="row 1"):
        ranks(torch.tensor([[1.0], [float("nan")]]), torch.arange(2))
