"""Ranking in blocks: the numbers of a single call, progress on the way, mAP left out with a reason where it must be."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import kinsight
from kinsight import progress
from kinsight.errors import DataError
from kinsight.evaluation import ranking
from kinsight.evaluation.sides import Side
from kinsight.metrics import bootstrap_intervals, class_table, retrieval_metrics
from kinsight.specs.evaluate import EvaluateSpec


def clustered(items: int, classes: int, seed: int = 0) -> Side:
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.randint(classes, (items,), generator=generator)
    centre_CD = torch.randn(classes, 16, generator=generator)
    emb_ND = centre_CD[label_N] + 2 * torch.randn(items, 16, generator=generator)
    names = tuple(str(label) for label in range(classes))
    return Side(emb_ND, label_N, pa.chunked_array([pa.repeat("", items)]), np.arange(items), names, [], None)


def retrieved(query: Side, gallery: Side | None, **settings: object):
    spec = EvaluateSpec.model_validate({"output": "x", "embeddings": "y", **settings})
    told: list[float] = []
    with progress.task("rank", len(query), "queries", quiet=True) as task:
        task._show = lambda force=False: told.append(task.done)  # type: ignore[method-assign]
        found, left_out = ranking.retrieve(spec, query, gallery, torch.device("cpu"), task)
    return found, left_out, told


@pytest.mark.parametrize("with_gallery", [False, True])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("most", [2**24, 2000, 1])
def test_blocks_give_the_numbers_of_a_single_call(
    most: int, whole: bool, with_gallery: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranking, "_QUERIES", 64)
    monkeypatch.setattr(ranking, "_BLOCKS", 5)
    monkeypatch.setattr(ranking, "_MOST_MATCHES", most)
    monkeypatch.setattr(ranking, "MOST_SIMILARITIES", 10**10 if whole else 0)
    side = clustered(400, 150)
    side.vector_ND[5] = side.vector_ND[200] = side.vector_ND[201]
    query = clustered(333, 170, seed=1) if with_gallery else side
    gallery = side if with_gallery else None
    found, left_out, told = retrieved(query, gallery, ks=[1, 3, 50])
    given = (query.vector_ND, query.label_N) if with_gallery else None
    expected = retrieval_metrics(side.vector_ND, side.label_N, query=given, ks=[1, 3, 50], whole=whole)
    assert expected.num_skipped > 0, "some queries have no match"
    assert found.means == expected.means and (left_out is None) == whole
    assert (found.num_queries, found.num_skipped) == (expected.num_queries, expected.num_skipped)
    for name, value_Q in expected.per_query.items():
        torch.testing.assert_close(found.per_query[name], value_Q, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.class_Q, expected.class_Q)
    assert torch.equal(found.ranks.first_Q(), expected.ranks.first_Q())
    assert torch.equal(found.ranks.positives_Q, expected.ranks.positives_Q)
    assert bootstrap_intervals(found.class_Q, found.per_query) == bootstrap_intervals(
        expected.class_Q, expected.per_query
    )
    assert torch.equal(
        class_table(found.class_Q, found.per_query).count_C, class_table(expected.class_Q, expected.per_query).count_C
    )
    assert len(told) == len(set(told)) and told == sorted(told)
    if whole and most == 2**24:
        assert len(told) == -(-found.num_queries // max(64, -(-found.num_queries // 5)))


def test_every_rank_is_left_out_where_it_would_take_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    side = clustered(60, 10)
    np.save(tmp_path / "vectors.npy", side.vector_ND.numpy())
    np.save(tmp_path / "labels.npy", side.label_N.numpy())
    spec = {"embeddings": str(tmp_path), "bootstrap": 0}
    full = kinsight.evaluate({"output": str(tmp_path / "full"), **spec}).metrics
    monkeypatch.setattr(ranking, "MOST_SIMILARITIES", 60 * 60 - 1)
    less = kinsight.evaluate({"output": str(tmp_path / "less"), **spec}).metrics
    assert less == {**full, "map": None, "mrr": None}
    reasons = json.loads((tmp_path / "less/evaluation.json").read_text())["not_measurable"]
    assert reasons["map"] == reasons["mrr"] and "3.6e+03 similarities are more than" in reasons["map"]


def test_the_last_match_was_a_broken_image(tmp_path: Path):
    query, gallery = clustered(20, 2), clustered(30, 2, seed=1)
    kept = query.label_N == 0
    query = Side(query.vector_ND[kept], query.label_N[kept], query.uri_N, query.row_N, query.class_names, [], None)
    gone = gallery.label_N == 1
    gallery = Side(gallery.vector_ND[gone], gallery.label_N[gone], gallery.uri_N, gallery.row_N, ("0", "1"), [], None)
    with pytest.raises(DataError, match="has a match left"):
        retrieved(query, gallery)


def test_two_classes_of_many_images_stay_within_memory(monkeypatch: pytest.MonkeyPatch):
    """Every query matches half of the set: a block holds as many ranks as allowed, not all of them."""
    monkeypatch.setattr(ranking, "_MOST_MATCHES", 10_000)
    held: list[int] = []
    inner = ranking.ranks
    monkeypatch.setattr(ranking, "ranks", lambda *a, **k: (found := inner(*a, **k), held.append(len(found.rank_P)))[0])
    found, _, _ = retrieved(clustered(600, 2), None)
    assert max(held) <= 10_000 and sum(held) == int(found.ranks.positives_Q.sum())
