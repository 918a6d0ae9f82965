import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight import metrics
from kinsight.errors import DataError, SpecError
from kinsight.neighbors import ranks


def clustered(items: int, classes: int, noise: float, seed: int = 0, dim: int = 16):
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.arange(items) % classes
    centre_CD = torch.randn(classes, dim, generator=generator)
    return centre_CD[label_N] + noise * torch.randn(items, dim, generator=generator), label_N


def naive(emb_ND, label_N, k):
    """Every metric by loops over one sorted list per query, in float64."""
    emb_ND = emb_ND.double() / emb_ND.double().norm(dim=1, keepdim=True)
    rows = []
    for q in range(len(emb_ND)):
        others = [g for g in range(len(emb_ND)) if g != q]
        others.sort(key=lambda g: (-float(emb_ND[q] @ emb_ND[g]), g))
        hits = [bool(label_N[g] == label_N[q]) for g in others]
        total = sum(hits)
        if not total:
            continue
        places = [place for place, hit in enumerate(hits, 1) if hit]
        precisions = [j / place for j, place in enumerate(places, 1)]
        inside = [p for p, place in zip(precisions, places, strict=True) if place <= total]
        rows.append(
            {
                f"recall@{k}": float(any(hits[:k])),
                f"precision@{k}": sum(hits[:k]) / k,
                "r_precision": len(inside) / total,
                "map@r": sum(inside) / total,
                "map": sum(precisions) / total,
                "mrr": 1 / places[0],
            }
        )
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}, len(rows)


@pytest.mark.parametrize(("items", "classes"), [(60, 12), (50, 7), (40, 33)])
def test_metrics_equal_a_loop_in_float64(items, classes):
    emb_ND, label_N = clustered(items, classes, 1.5)
    expected, number = naive(emb_ND, label_N, 4)
    result = metrics.retrieval_metrics(emb_ND, label_N, ks=(4,), precision_ks=(4,), whole=True)
    assert result.num_queries == number
    assert result.num_skipped == items - number
    for name, value in expected.items():
        assert result.means[name] == pytest.approx(value, abs=1e-12), name
    assert result.means["cmc@4"] == result.means["recall@4"]


def test_a_case_worked_by_hand():
    # query 0 on a line; gallery by distance: a(1) x(2) a(3) a(5) y(9): ranks of the class a are 1, 3, 4, R = 3
    gallery_ND = torch.tensor([[3.0], [2.0], [1.0], [9.0], [5.0]])
    label_N = torch.tensor([7, 8, 7, 9, 7])
    result = metrics.retrieval_metrics(
        gallery_ND,
        label_N,
        query=(torch.tensor([[0.0]]), torch.tensor([7])),
        ks=(1, 2),
        precision_ks=(2, 5),
        metric="l2",
        whole=True,
    )
    assert result.ranks.rank_P.tolist() == [1, 3, 4]
    assert result.means["recall@1"] == 1.0
    assert result.means["precision@2"] == 0.5
    assert result.means["precision@5"] == pytest.approx(3 / 5)
    assert result.means["r_precision"] == pytest.approx(2 / 3)
    assert result.means["map@r"] == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert result.means["map"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert result.means["mrr"] == 1.0


def test_equal_vectors_rank_by_gallery_index():
    result = metrics.retrieval_metrics(torch.ones(4, 3), torch.tensor([0, 1, 0, 1]), ks=(1, 2), whole=True)
    # query 0 meets 1, 2, 3: its match 2 is second; 1 meets 0, 2, 3: third; 2 meets 0: first; 3 meets 0, 1: second
    assert result.ranks.rank_P.tolist() == [2, 3, 1, 2]
    assert result.means["recall@1"] == 0.25
    assert result.means["mrr"] == pytest.approx((1 / 2 + 1 / 3 + 1 + 1 / 2) / 4)


def test_cmc_curve_is_recall_at_each_k():
    emb_ND, label_N = clustered(60, 12, 2.0)
    result = metrics.retrieval_metrics(emb_ND, label_N, ks=range(1, 21))
    curve_K = metrics.cmc_curve(result.ranks, 20)
    assert curve_K.tolist() == pytest.approx([result.means[f"recall@{k}"] for k in range(1, 21)])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**20), items=st.integers(4, 40), classes=st.integers(1, 12), noise=st.sampled_from([0.3, 2.0])
)
def test_recall_never_falls_with_k_and_values_stay_in_range(seed, items, classes, noise):
    emb_ND, label_N = clustered(items, min(classes, items // 2), noise, seed)
    result = metrics.retrieval_metrics(emb_ND, label_N, ks=(1, 2, 3, 5, 50), whole=True)
    recall = [result.means[f"recall@{k}"] for k in (1, 2, 3, 5, 50)]
    assert recall == sorted(recall)
    assert recall[-1] == 1.0
    assert all(0 <= value <= 1 for value in result.means.values())
    assert result.means["map@r"] <= result.means["r_precision"]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_permuting_the_items_changes_nothing(seed):
    emb_ND, label_N = clustered(30, 6, 1.5, seed)
    order_N = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    one = metrics.retrieval_metrics(emb_ND, label_N, whole=True)
    other = metrics.retrieval_metrics(emb_ND[order_N], label_N[order_N], whole=True)
    for name, value_Q in one.per_query.items():
        assert torch.equal(value_Q[order_N], other.per_query[name]), name


def test_same_numbers_as_pytorch_metric_learning():
    accuracy = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    emb_ND, label_N = clustered(400, 40, 1.5)
    unit_ND = torch.nn.functional.normalize(emb_ND)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_average_precision")
    calculator = accuracy.AccuracyCalculator(include=names, k=399, device=torch.device("cpu"))
    theirs = calculator.get_accuracy(unit_ND, label_N)
    ours = metrics.retrieval_metrics(emb_ND, label_N, ks=(1,), whole=True).means
    for name, peer in zip(("recall@1", "r_precision", "map@r", "map"), names, strict=True):
        assert ours[name] == pytest.approx(theirs[peer], abs=1e-6), name


def test_one_class_scores_one():
    emb_ND, label_N = clustered(20, 1, 1.0)
    result = metrics.retrieval_metrics(emb_ND, label_N, whole=True)
    assert all(value == 1.0 for value in result.means.values())


@pytest.mark.parametrize("items", [1, 5])
def test_no_positives_is_an_error_that_says_so(items):
    with pytest.raises(DataError, match="has a match"):
        metrics.retrieval_metrics(torch.randn(items, 4), torch.arange(items))


def test_k_below_one_is_refused():
    with pytest.raises(SpecError, match="at least 1"):
        metrics.retrieval_metrics(torch.randn(4, 4), torch.tensor([0, 0, 1, 1]), ks=(0, 1))


def test_shallow_ranks_are_refused_by_deep_metrics():
    emb_ND, label_N = clustered(40, 4, 1.0)
    shallow = ranks(emb_ND, label_N, max_rank=3)
    with pytest.raises(SpecError, match="max_rank"):
        metrics.map_at_r(shallow)
    with pytest.raises(SpecError, match="max_rank"):
        metrics.reciprocal_rank(shallow)
    assert 0 <= float(metrics.recall_at(shallow, 3).mean()) <= 1


def test_queries_without_positive_are_nan_per_query():
    emb_ND, label_N = clustered(9, 4, 1.0)
    label_N[8] = 99
    result = metrics.retrieval_metrics(emb_ND, label_N)
    assert result.num_skipped == 1
    assert math.isnan(result.per_query["map@r"][8])
    assert not result.per_query["map@r"][:8].isnan().any()
