"""What a search finds: the same as comparing everything, for every kind, whatever was deleted."""

import numpy as np
import pytest
import torch
from index_cases import KINDS, METRICS, built, grouped, queries

from kinsight.errors import DataError, SpecError
from kinsight.indexing import Index, delete
from kinsight.neighbors import topk


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 10, 700])
def test_flat_equals_topk_bit_for_bit(tmp_path, metric, k):
    vector_ND = grouped(1000)
    index = built(tmp_path, vector_ND, metric=metric)
    hits = index.search(queries(), k)
    similarity_QK, index_QK = topk(queries(), torch.from_numpy(vector_ND), k, metric=metric)
    assert torch.equal(hits.row_QK, index_QK)
    assert torch.equal(hits.similarity_QK, similarity_QK)
    assert hits.similarity_QK.dtype == torch.float32
    exclude_Q = torch.arange(30) * 5 - 1
    hits = index.search(queries(), k, exclude_Q=exclude_Q)
    expected = topk(queries(), torch.from_numpy(vector_ND), k, metric=metric, exclude=exclude_Q)
    assert torch.equal(hits.row_QK, expected[1])
    assert torch.equal(hits.similarity_QK, expected[0])


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_flat_equals_topk_at_any_scale(tmp_path, metric, scale):
    vector_ND = (grouped(300).astype(np.float64) * scale).astype(np.float32)
    query_QD = queries() * scale
    hits = built(tmp_path, vector_ND, metric=metric).search(query_QD, 9)
    similarity_QK, index_QK = topk(query_QD, torch.from_numpy(vector_ND), 9, metric=metric)
    assert torch.equal(hits.row_QK, index_QK)
    assert torch.equal(hits.similarity_QK, similarity_QK)


def test_many_equal_vectors_come_in_the_order_of_their_rows(tmp_path):
    vector_ND = np.repeat(grouped(2), 400, axis=0)
    hits = built(tmp_path, vector_ND).search(torch.from_numpy(vector_ND[:1]), 6)
    assert hits.row_QK.tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_looking_everywhere_equals_flat(tmp_path, kind, metric):
    vector_ND = grouped(900)
    settings = {"kind": "ivf", "lists": 9, "nprobe": 9} if kind == "ivf" else {"kind": "hnsw", "ef_search": 900}
    hits = built(tmp_path, vector_ND, metric=metric, index=settings).search(queries(), 8)
    similarity_QK, index_QK = topk(queries(), torch.from_numpy(vector_ND), 8, metric=metric)
    assert torch.equal(hits.similarity_QK, similarity_QK)
    assert torch.equal(hits.row_QK, index_QK)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_defaults_find_nearly_all_and_say_exact_similarities(tmp_path, kind, metric):
    vector_ND = grouped(4000)
    index = built(tmp_path, vector_ND, metric=metric, index={"kind": kind})
    hits = index.search(queries(), 10)
    similarity_QN, _ = topk(queries(), torch.from_numpy(vector_ND), 4000, metric=metric)
    exact_QK, index_QK = topk(queries(), torch.from_numpy(vector_ND), 10, metric=metric)
    found = [len(set(a) & set(b)) / 10 for a, b in zip(hits.row_QK.tolist(), index_QK.tolist(), strict=True)]
    assert np.mean(found) >= 0.95
    assert (hits.similarity_QK[:, 0] <= exact_QK[:, 0]).all()
    assert (hits.similarity_QK.diff(dim=1) <= 0).all()
    assert torch.isin(hits.similarity_QK, similarity_QN).all()


@pytest.mark.parametrize("kind", KINDS)
def test_deleted_items_never_come_back_and_k_live_ones_do(tmp_path, kind):
    vector_ND = grouped(1200)
    built(tmp_path, vector_ND, index={"kind": kind})
    gone = np.random.default_rng(3).permutation(1200)[:1150]
    delete({"index": str(tmp_path / "index"), "ids": [str(row) for row in gone]})
    index = Index.open(tmp_path / "index")
    assert len(index) == 50
    live_M = np.setdiff1d(np.arange(1200), gone)
    for k in (5, 50, 60):
        hits = index.search(queries(), k)
        assert ((hits.row_QK >= 0).sum(1) == min(k, 50)).all()
        assert set(hits.row_QK.unique().tolist()) <= {*live_M.tolist(), -1}
    _, among_QK = topk(queries(), torch.from_numpy(vector_ND[live_M]), 50)
    assert np.array_equal(hits.row_QK[:, :50].numpy(), live_M[among_QK.numpy()])
    assert (hits.row_QK[:, 50:] == -1).all()
    assert (hits.similarity_QK[:, 50:] == -torch.inf).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_excluded_row_is_left_out_and_replaced_by_another(tmp_path, kind):
    vector_ND = grouped(1000)
    index = built(tmp_path, vector_ND, index={"kind": kind})
    query_QD = index.vectors(np.arange(40))
    assert torch.equal(query_QD, torch.from_numpy(vector_ND[:40]))
    exclude_Q = torch.arange(40)
    exclude_Q[3] = -1
    hits = index.search(query_QD, 6, exclude_Q=exclude_Q)
    assert not ((hits.row_QK == exclude_Q[:, None]) & (hits.row_QK >= 0)).any()
    assert 3 in hits.row_QK[3].tolist()
    assert (hits.row_QK >= 0).all()
    everything = index.search(query_QD[:4], 1000, exclude_Q=exclude_Q[:4])
    assert (everything.row_QK >= 0).sum(1).tolist() == [999, 999, 999, 1000]


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_there_is_and_an_index_with_nothing_left(tmp_path, kind):
    built(tmp_path, grouped(300), index={"kind": kind})
    index = Index.open(tmp_path / "index")
    hits = index.search(queries(), 400)
    assert (hits.row_QK >= 0).sum(1).tolist() == [300] * 30
    assert index.search(queries(0), 5).row_QK.shape == (0, 5)
    delete({"index": str(tmp_path / "index"), "ids": [str(row) for row in range(300)]})
    empty = Index.open(tmp_path / "index")
    assert len(empty) == 0
    assert empty.search(queries(), 3).row_QK.tolist() == [[-1, -1, -1]] * 30


@pytest.mark.parametrize("kind", KINDS)
def test_bad_queries_are_named(tmp_path, kind):
    index = built(tmp_path, grouped(600), index={"kind": kind})
    query_QD = queries()
    query_QD[4] = 0
    with pytest.raises(DataError, match="query row 4 is a zero vector"):
        index.search(query_QD, 3)
    query_QD[2, 1] = torch.nan
    with pytest.raises(DataError, match="query row 2 holds NaN"):
        index.search(query_QD, 3)
    with pytest.raises(DataError, match=r"\(30, 23\), the index holds vectors of length 24"):
        index.search(queries()[:, 1:], 3)
    with pytest.raises(SpecError, match="k=0"):
        index.search(queries(), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_settings_build_the_same_index(tmp_path, kind):
    first = built(tmp_path, grouped(1500), name="a", index={"kind": kind})
    second = built(tmp_path, grouped(1500), name="b", index={"kind": kind})
    assert {name: mark.sha256 for name, mark in first.header.files.items()} == {
        name: mark.sha256 for name, mark in second.header.files.items()
    }


def test_searches_from_many_threads_agree(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    for kind in KINDS:
        index = built(tmp_path, grouped(2000), name=kind, index={"kind": kind})
        expected = index.search(queries(), 10).row_QK
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _, index=index: index.search(queries(), 10).row_QK, range(12)):
                assert torch.equal(found, expected)
