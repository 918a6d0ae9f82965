"""`evaluate` beside the plain search: fewer dimensions, projection, expansion, re-ranking; alone and together."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kinsight
from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.evaluation.evaluate import run
from kinsight.metrics import Reordered, SameLabel, retrieval_metrics
from kinsight.neighbors import (
    AugmentedSet,
    augment_gallery,
    expand_queries,
    fit_projection,
    k_reciprocal,
    nearest,
    shortened,
)

ALL: dict[str, Any] = {
    "gallery_expansion": {"kind": "alpha", "k": 4},
    "query_expansion": {"kind": "average", "k": 3},
    "rerank": {"k1": 6, "k2": 3, "depth": 20},
}


def clusters(items: int, seed: int, classes: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre_CD = torch.randn(classes, 16, generator=torch.Generator().manual_seed(9))
    label_N = torch.randint(classes, (items,), generator=generator)
    return centre_CD[label_N] + 0.9 * torch.randn(items, 16, generator=generator), label_N


def store(folder: Path, items: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    emb_ND, label_N = clusters(items, seed)
    folder.mkdir()
    np.save(folder / "vectors.npy", emb_ND.numpy())
    np.save(folder / "labels.npy", label_N.numpy())
    return emb_ND, label_N


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name, items, seed in (("query", 90, 1), ("gallery", 160, 2), ("other", 120, 3)):
        store(folder / name, items, seed)
    return folder


def evaluate(sets: Path, output: Path, *, with_gallery: bool = False, **spec: Any) -> dict[str, Any]:
    gallery = {"gallery_embeddings": str(sets / "gallery")} if with_gallery else {}
    base = {"output": str(output), "embeddings": str(sets / "query"), "report": None, "bootstrap": 50, "ks": [1, 5]}
    return kinsight.evaluate({**base, **gallery, **spec}).metrics


def improved(metrics: dict[str, Any], prefix: str = "improved/") -> dict[str, float]:
    """The values alone, without bounds and gains."""
    found = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    bounds = (".low", ".high", ".gain")
    return {n: v for n, v in found.items() if not n.endswith(bounds) and "/" not in n and n != "dimensions"}


def test_without_settings_nothing_is_added(sets: Path, tmp_path: Path):
    assert not [name for name in evaluate(sets, tmp_path / "o") if "/" in name]


@pytest.mark.parametrize("steps", [s for n in (1, 2, 3) for s in itertools.combinations(ALL, n)])
def test_queries_in_a_gallery_equal_the_library_step_by_step(steps: tuple[str, ...], sets: Path, tmp_path: Path):
    metrics = evaluate(sets, tmp_path / "o", with_gallery=True, **{name: ALL[name] for name in steps})
    (query_QD, query_Q), (gallery_ND, gallery_N) = clusters(90, 1), clusters(160, 2)
    if "gallery_expansion" in steps:
        gallery_ND = augment_gallery(gallery_ND, 4, alpha=3.0)
    if "query_expansion" in steps:
        query_QD = expand_queries(query_QD, gallery_ND, 3)
    relation = SameLabel(query_Q, gallery_N)
    if "rerank" in steps:
        relation = Reordered(relation, k_reciprocal(query_QD, gallery_ND, k1=6, k2=3, depth=20).place_QK)
    expected = retrieval_metrics(gallery_ND, relation, query=(query_QD, query_Q), ks=[1, 5], whole=True).means
    assert improved(metrics) == pytest.approx(expected, abs=1e-12)
    assert metrics["improved/map@r.gain"] == pytest.approx(expected["map@r"] - metrics["map@r"])
    assert metrics["improved/map@r.gain.low"] <= metrics["improved/map@r.gain"] <= metrics["improved/map@r.gain.high"]
    plain = evaluate(sets, tmp_path / "plain", with_gallery=True)
    assert {name: metrics[name] for name in plain} == plain, "the plain numbers, verification too, stay as they are"


@pytest.mark.parametrize("steps", [s for n in (1, 2, 3) for s in itertools.combinations(ALL, n)])
def test_leave_one_out_equals_searching_each_without_itself(steps: tuple[str, ...], sets: Path, tmp_path: Path):
    """The set is augmented anew for each query, without it."""
    metrics = evaluate(sets, tmp_path / "o", **{name: ALL[name] for name in steps})
    emb_ND, label_N = clusters(90, 1)
    own_N = torch.arange(90)
    query_ND, others = emb_ND, []
    for n in range(90):
        rest_MD = emb_ND[own_N != n]
        others.append(augment_gallery(rest_MD, 4, alpha=3.0) if "gallery_expansion" in steps else rest_MD)
    if "query_expansion" in steps:
        query_ND = torch.cat([expand_queries(emb_ND[n][None], others[n], 3) for n in range(90)])
    place_NK = None
    if "rerank" in steps:
        found = [nearest(query_ND[n][None], others[n], 20) for n in range(90)]
        both = AugmentedSet(emb_ND, 4, alpha=3.0) if "gallery_expansion" in steps else None
        candidates = (
            both.nearest(query_ND, own_N, 20) if both is not None else nearest(query_ND, emb_ND, 20, exclude=own_N)
        )
        index_NK = torch.cat([one.index_QK + (one.index_QK >= n) for n, one in enumerate(found)])
        assert torch.equal(candidates.index_QK, index_NK)
        place_NK = k_reciprocal(query_ND, k1=6, k2=3, candidates=candidates).place_QK
    values: dict[str, list[float]] = {}
    for n in range(90):
        label_M = label_N[own_N != n]
        if not bool((label_M == label_N[n]).any()):
            continue
        relation = SameLabel(label_N[n][None], label_M)
        if place_NK is not None:
            relation = Reordered(relation, place_NK[n][None])
        given = query_ND[n][None], label_N[n][None]
        one = retrieval_metrics(others[n], relation, query=given, ks=[1, 5], whole=True)
        for name, value in one.means.items():
            values.setdefault(name, []).append(value)
    expected = {name: float(np.mean(value)) for name, value in values.items()}
    assert improved(metrics) == pytest.approx(expected, abs=1e-12)


def test_projection_and_sizes(sets: Path, tmp_path: Path):
    wanted = {"kind": "whiten", "dim": 8, "shrinkage": 0.1}
    metrics = evaluate(sets, tmp_path / "o", with_gallery=True, projection=wanted, sizes=[8, 2], bootstrap=0)
    (query_QD, query_Q), (gallery_ND, gallery_N) = clusters(90, 1), clusters(160, 2)
    projection = fit_projection(gallery_ND, 8, whiten=True, shrinkage=0.1)
    for size in (2, 8, None):
        plain = [shortened(side, size) if size else side for side in (query_QD, gallery_ND)]
        turned = [shortened(projection(side), size) if size else projection(side) for side in (query_QD, gallery_ND)]
        prefix = f"dim={size}/" if size else ""
        for sides, middle in ((plain, ""), (turned, "improved/")):
            expected = retrieval_metrics(sides[1], gallery_N, query=(sides[0], query_Q), ks=[1, 5], whole=True).means
            assert metrics | {prefix + middle + name: value for name, value in expected.items()} == metrics
    assert metrics["improved/dimensions"] == 8
    notes = json.loads((tmp_path / "o/evaluation.json").read_text())["improvements"]
    assert len(notes) == 1 and notes[0].startswith("whitening: 8 dimensions with ") and "the gallery" in notes[0]


def test_a_projection_fitted_elsewhere(sets: Path, tmp_path: Path):
    metrics = evaluate(sets, tmp_path / "o", projection={"kind": "pca", "dim": 6, "fit": str(sets / "other")})
    emb_ND, label_N = clusters(90, 1)
    turned_ND = fit_projection(clusters(120, 3)[0], 6)(emb_ND)
    assert improved(metrics) == pytest.approx(retrieval_metrics(turned_ND, label_N, ks=[1, 5], whole=True).means)


def test_all_dimensions_are_measured_once(sets: Path, tmp_path: Path):
    metrics = evaluate(sets, tmp_path / "o", sizes=[16, 4])
    assert "dim=4/recall@1.low" in metrics and not [name for name in metrics if name.startswith(("dim=16", "improved"))]


def test_without_intervals(sets: Path, tmp_path: Path):
    metrics = evaluate(sets, tmp_path / "o", bootstrap=0, rerank=ALL["rerank"])
    assert "improved/recall@1.gain" in metrics and not [name for name in metrics if name.endswith(".low")]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"sizes": [4, 17]}, r"sizes: is 17; there are 16 dimensions"),
        ({"sizes": [4, 4]}, "holds a number twice"),
        ({"sizes": [0]}, "sizes"),
        ({"projection": {"kind": "pca", "dim": 4}}, "projection.fit is needed in leave-one-out"),
        ({"projection": {"kind": "pca", "dim": 17, "fit": "other"}}, "projection.dim: is 17; there are 16"),
        ({"projection": {"kind": "pca", "dim": 4, "fit": "other"}, "sizes": [5]}, "projection.dim keeps 4"),
        ({"projection": {"kind": "pca", "fit": "query"}}, "holds the queries themselves"),
        ({"query_expansion": {"kind": "average", "k": 90}}, "query_expansion.k: is 90; there are 89 items"),
        ({"gallery_expansion": {"kind": "alpha", "k": 89}}, "gallery_expansion.k: is 89; there are 88 items"),
        ({"gallery_expansion": {"kind": "alpha"}, "metric": "l2"}, "gallery_expansion needs metric=cosine"),
        ({"rerank": {"k1": 90}}, "rerank.k1: is 90; there are 89 other items"),
        ({"rerank": {"k1": 5}}, "rerank.k2=6: must not be above rerank.k1=5"),
        ({"rerank": {}, "metric": "ip"}, "rerank needs a distance"),
        ({"query_expansion": {"kind": "average", "alpha": 2}}, "alpha"),
    ],
)
def test_settings_that_cannot_be(spec: dict[str, Any], message: str, sets: Path, tmp_path: Path):
    if "projection" in spec and "fit" in spec["projection"]:
        spec = {**spec, "projection": {**spec["projection"], "fit": str(sets / spec["projection"]["fit"])}}
    with pytest.raises(SpecError, match=message):
        evaluate(sets, tmp_path / "o", **spec)
    assert not (tmp_path / "o").exists()


def test_too_few_vectors_to_whiten_by(sets: Path, tmp_path: Path):
    store(tmp_path / "few", 10, 4)
    wanted = {"kind": "whiten", "fit": str(tmp_path / "few")}
    with pytest.raises(DataError, match="projection: 10 vectors are too few to whiten 16 dimensions"):
        evaluate(sets, tmp_path / "o", projection=wanted)


def test_vectors_that_are_no_numbers(sets: Path, tmp_path: Path):
    emb_ND, _ = store(tmp_path / "bad", 40, 4)
    emb_ND[3, 1] = float("nan")
    np.save(tmp_path / "bad/vectors.npy", emb_ND.numpy())
    with pytest.raises(KinsightError, match="row 3"):
        evaluate(sets, tmp_path / "o", projection={"kind": "pca", "fit": str(tmp_path / "bad")})


def test_the_report_shows_both(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    spec = {
        "output": str(tmp_path / "o"), "embeddings": str(sets / "query"), "bootstrap": 50, "sizes": [4],
        "report": {"map": "none"}, **ALL,
    }  # fmt: skip
    run(spec)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "gain" in printed and "improved, dimensions" in printed
    page = (tmp_path / "o/report/index.html").read_text()
    for words in ("Improved search", "Fewer dimensions", "K-reciprocal re-ranking of the first 20", "Gain"):
        assert words in page
    assert "Improved/" not in page and "dim=4" not in page.partition("All settings")[0]
