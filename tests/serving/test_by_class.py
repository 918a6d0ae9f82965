"""One entry per class: the ranking against one worked out from all similarities, and what may be chosen."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinsight.errors import SpecError
from kinsight.indexing import Index, build
from kinsight.serving.by_class import EVIDENCE, Preference, nearest_classes
from kinsight.serving.serve import in_background, serve
from kinsight.specs.serve import ServeSpec


def ask(address: str, query: dict[str, Any] | bytes) -> tuple[int, dict[str, Any]]:
    body, kind = (query, "image/png") if isinstance(query, bytes) else (json.dumps(query).encode(), "application/json")
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, body, {"Content-Type": kind}), timeout=20
        ) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def index(made: Path) -> Index:
    return Index.open(str(made / "index"))


def expected(index: Index, query_D: torch.Tensor, left_out: int | None = None) -> dict[str, float]:
    """Every class's evidence, from the definition."""
    rows = [row for row in range(index.num_rows) if row != left_out]
    vector_ND = torch.nn.functional.normalize(index.vectors(rows), dim=1)
    similarity_N = (vector_ND @ torch.nn.functional.normalize(query_D, dim=0)).numpy()
    labels = index.items(rows)["label"].to_pylist()
    by_label: dict[str, list[float]] = {}
    for label, similarity in zip(labels, similarity_N.tolist(), strict=True):
        by_label.setdefault(label, []).append(similarity)
    return {label: float(np.mean(sorted(found)[::-1][:EVIDENCE])) for label, found in by_label.items()}


def test_the_ranking_is_that_of_the_definition(index: Index):
    for seed in range(5):
        query_D = torch.randn(16, generator=torch.Generator().manual_seed(seed))
        found = nearest_classes(index, query_D[None], 6, exclude_1=None, preference=None)
        truth = expected(index, query_D)
        assert [one["label"] for one in found] == sorted(truth, key=truth.__getitem__, reverse=True)
        np.testing.assert_allclose([one["similarity"] for one in found], sorted(truth.values())[::-1], atol=1e-5)
        assert sum(one["evidence"]["items"] for one in found) == 24
        assert {one["evidence"]["of"] for one in found} == {4}


def test_an_item_that_searches_on_does_not_speak_for_its_class(index: Index):
    query_D = index.vectors([9])[0]
    found = nearest_classes(index, query_D[None], 6, exclude_1=torch.tensor([9]), preference=None)
    truth = expected(index, query_D, left_out=9)
    np.testing.assert_allclose([one["similarity"] for one in found], sorted(truth.values())[::-1], atol=1e-5)
    assert {one["label"]: one["evidence"]["of"] for one in found}["class <2>"] == 3
    assert 9 not in [one["row"] for one in found]


def test_a_preference_moves_the_rank_and_nothing_else(index: Index):
    query_D = torch.randn(16, generator=torch.Generator().manual_seed(1))
    plain = nearest_classes(index, query_D[None], 6, exclude_1=None, preference=None)
    lifted = nearest_classes(index, query_D[None], 6, exclude_1=None, preference=Preference("common", 2.0))
    assert plain[0]["label"] != "class <2>" and lifted[0]["label"] == "class <2>"
    assert [one["label"] for one in lifted[1:]] == [one["label"] for one in plain if one["label"] != "class <2>"]
    assert {one["label"]: one["similarity"] for one in lifted} == {one["label"]: one["similarity"] for one in plain}
    assert [one["evidence"]["preferred"] for one in lifted] == [True] + [False] * 5
    assert {one["evidence"]["most"] for one in lifted} == {plain[0]["similarity"]}


def test_a_class_of_many_items_does_not_hide_the_others(made: Path, tmp_path: Path):
    """2,000 items of one class lie nearer than the five items of the other five."""
    rng = np.random.default_rng(0)
    near = np.array([1, 0, 0, 0]) + rng.normal(0, 0.01, (2000, 4))
    far = np.array([0, 1, 0, 0]) + rng.normal(0, 0.3, (5, 4))
    (tmp_path / "embeddings").mkdir()
    np.save(tmp_path / "embeddings/vectors.npy", np.concatenate([near, far]).astype(np.float32))
    np.save(tmp_path / "embeddings/labels.npy", np.array([0] * 2000 + [1, 2, 3, 4, 5]))
    build({"embeddings": str(tmp_path / "embeddings"), "output": str(tmp_path / "index")})
    index = Index.open(str(tmp_path / "index"))
    found = nearest_classes(index, torch.tensor([[1.0, 0, 0, 0]]), 6, exclude_1=None, preference=None)
    assert found[0]["label"] == "0" and len(found) == 6
    assert [one["evidence"]["of"] for one in found] == [2000, 1, 1, 1, 1, 1]


def test_the_server_lists_classes_unless_asked_for_items(server: str, made: Path):
    data = (made / "images/3-1.png").read_bytes()
    _, classes = ask(f"{server}/v1/search?k=6", data)
    _, items = ask(f"{server}/v1/search?k=6&by=items", data)
    assert (classes["by"], items["by"]) == ("classes", "items")
    labels = [one["label"] for one in classes["results"]]
    assert len(labels) == len(set(labels)) == 6 and classes["label"] == "class <3>" == labels[0]
    best = classes["results"][0]
    assert best["evidence"]["best"] == pytest.approx(items["results"][0]["similarity"]) and best["row"] == 13
    assert classes["accepted"] == (best["similarity"] >= 0.9)
    assert [one["rank"] for one in classes["results"]] == [1, 2, 3, 4, 5, 6]
    assert all("evidence" not in one for one in items["results"])
    status, answer = ask(f"{server}/v1/search?by=pictures", data)
    assert status == 400 and answer["field"] == "by"
    info = json.loads(urllib.request.urlopen(f"{server}/v1/info", timeout=20).read())
    assert (info["by"], info["prefer"], info["index"]["classes"]) == ("classes", None, 6)


def test_items_and_preferences_by_the_servers_settings(made: Path):
    place = {"bundle": str(made / "run"), "index": str(made / "index"), "port": 0}
    with in_background(ServeSpec(**place, by="items")) as address:
        assert ask(f"{address}/v1/search?k=24", {"row": 0})[1]["by"] == "items"
    with in_background(ServeSpec(**place, prefer="common", prefer_by=2, threshold=0.9)) as address:
        _, answer = ask(f"{address}/v1/search?k=1", {"row": 20})
        best = answer["results"][0]
        assert answer["label"] == best["label"] == "class <2>"
        # A match, because the nearest class is one; the preferred one itself need not be.
        assert best["evidence"]["most"] >= 0.9 and answer["accepted"] is True
        assert best["similarity"] < best["evidence"]["most"] and best["accepted"] == (best["similarity"] >= 0.9)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prefer_by": 0.1}, "no effect without prefer"),
        ({"prefer": "common", "by": "items"}, "no effect with by=items"),
        ({"prefer": "commons"}, "no such column; it has character, note, common"),
    ],
)
def test_preferences_that_cannot_work_are_refused(made: Path, settings: dict[str, Any], says: str):
    with pytest.raises(SpecError, match=says):
        serve({"bundle": str(made / "run"), "index": str(made / "index"), "port": 0, **settings})
