"""What `evaluate` writes: the same numbers as the metrics package and as a loop over sorted lists."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_set import NAMES, PER_CLASS, write_list

import kinsight
from kinsight.errors import DataError
from kinsight.evaluation import load_embeddings
from kinsight.metrics import bootstrap_intervals, draw_pairs, retrieval_metrics, verification_metrics


def run(output: Path, **spec: object) -> dict[str, float]:
    result = kinsight.evaluate({"output": str(output), "workers": 0, "bootstrap": 50, **spec})
    assert result.metrics == json.loads((output / "metrics.json").read_text())
    return result.metrics  # type: ignore[return-value]


def brute_force(query: np.ndarray, query_label: list[str], gallery: np.ndarray, gallery_label: list[str], same: bool):
    """recall@1, recall@2, r_precision, map@r, map and mrr by a sorted list per query, in float64."""
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    rows = []
    for q in range(len(query)):
        order = sorted(
            (g for g in range(len(gallery)) if not (same and g == q)), key=lambda g: (-(query[q] @ gallery[g]), g)
        )
        places = [place for place, g in enumerate(order, 1) if gallery_label[g] == query_label[q]]
        if not places:
            continue
        number = len(places)
        precision = [j / place for j, place in enumerate(places, 1)]
        inside = [p for p, place in zip(precision, places, strict=True) if place <= number]
        rows.append(
            [
                places[0] <= 1,
                places[0] <= 2,
                len(inside) / number,
                sum(inside) / number,
                sum(precision) / number,
                1 / places[0],
            ]
        )
    names = ("recall@1", "recall@2", "r_precision", "map@r", "map", "mrr")
    return dict(zip(names, np.mean(rows, axis=0), strict=True)), len(rows)


def stored(folder: Path) -> tuple[np.ndarray, list[str]]:
    found = load_embeddings(folder)
    return found.vector_ND.double().numpy(), [found.class_names[label] for label in found.label_N.tolist()]


@pytest.mark.parametrize("source", ["integers", "names", "folder"])
def test_a_bundles_numbers_equal_a_loop(source: str, pictures: Path, bundle: Path, tmp_path: Path):
    path, kind = (pictures, "folder") if source == "folder" else (pictures / f"{source}.txt", "image-list")
    metrics = run(
        tmp_path, bundle=str(bundle), data={"path": str(path), "format": kind}, ks=[1, 2], save_embeddings=True
    )
    vectors, labels = stored(tmp_path / "embeddings")
    expected, number = brute_force(vectors, labels, vectors, labels, same=True)
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    assert metrics["queries"] == number == len(NAMES) * PER_CLASS
    assert metrics["gallery"] == len(NAMES) * PER_CLASS
    assert (metrics["classes"], metrics["queries_without_match"], metrics["broken_images"]) == (len(NAMES), 0, 0)
    assert 0.3 < metrics["recall@1"] < 1, "an untrained network tells some classes apart"
    assert not [name for name in metrics if name.endswith(".low")], "six classes say nothing of others"


def test_every_number_comes_from_the_metrics_package(pictures: Path, bundle: Path, tmp_path: Path):
    metrics = run(tmp_path, bundle=str(bundle), data={"path": str(pictures / "integers.txt")}, save_embeddings=True)
    found = load_embeddings(tmp_path / "embeddings")
    retrieval = retrieval_metrics(found.vector_ND, found.label_N, whole=True)
    expected: dict[str, float | None] = dict(retrieval.means)
    pairs = draw_pairs(found.vector_ND, found.label_N)
    expected |= verification_metrics(pairs.same_P, pairs.different_P).means
    expected |= {
        "same_pairs": len(pairs.same_P),
        "different_pairs": len(pairs.different_P),
        "gallery": 30,
        "classes": 6,
    }
    expected |= {"queries": 30, "queries_without_match": 0, "broken_images": 0}
    assert metrics == expected
    with pytest.raises(DataError, match="intervals need 10"):
        bootstrap_intervals(retrieval.class_Q, retrieval.per_query, resamples=50)
    header = json.loads((tmp_path / "evaluation.json").read_text())
    assert header["not_measurable"]["intervals"].startswith("6 classes with matches")
    assert "fpr 0.001 is finer" in header["not_measurable"]["tpr@fpr=1e-3"] and metrics["tpr@fpr=1e-3"] is None
    assert header["protocol"] == "leave-one-out" and header["precision"] in ("fp32", "bf16")
    assert header["spec"]["data"]["path"] == str(pictures / "integers.txt")


def test_query_and_gallery_match_classes_by_name(pictures: Path, bundle: Path, tmp_path: Path):
    """Lists number the same classes differently: 3, 5 and names on one side, other classes beside them on the other."""
    images = {label: [str(pictures / f"{label}/{number}.png") for number in range(PER_CLASS)] for label in range(6)}
    queries = [(images[label][0], name) for label, name in ((0, "cat"), (3, "鞋 子"), (5, "only asked for"))]
    gallery = [(image, NAMES[label] if label != 1 else "dog") for label in (5, 3, 0, 1) for image in images[label][1:]]
    write_list(tmp_path / "q.txt", queries)
    write_list(tmp_path / "g.txt", gallery)
    sides = {"data": {"path": str(tmp_path / "q.txt")}, "gallery": {"path": str(tmp_path / "g.txt")}}
    metrics = run(tmp_path / "out", bundle=str(bundle), ks=[1, 2], save_embeddings=True, **sides)
    query, query_label = stored(tmp_path / "out/embeddings")
    other, other_label = stored(tmp_path / "out/gallery-embeddings")
    assert query_label == ["cat", "鞋 子", "only asked for"] and set(other_label) == {"zebra", "鞋 子", "cat", "dog"}
    expected, number = brute_force(query, query_label, other, other_label, same=False)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert (metrics["queries"], metrics["queries_without_match"], metrics["gallery"]) == (number, 1, 16)
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["protocol"] == "query and gallery"


def test_integer_labels_of_two_lists_match_by_number(pictures: Path, bundle: Path, tmp_path: Path):
    write_list(tmp_path / "q.txt", [(str(pictures / "2/0.png"), 700), (str(pictures / "4/0.png"), 12)])
    write_list(
        tmp_path / "g.txt", [(str(pictures / f"{c}/1.png"), n) for c, n in ((0, 3), (2, 700), (4, 12), (5, 701))]
    )
    sides = {"data": {"path": str(tmp_path / "q.txt")}, "gallery": {"path": str(tmp_path / "g.txt")}}
    metrics = run(tmp_path / "out", bundle=str(bundle), ks=[1, 4], **sides)
    assert metrics["queries"] == 2 and metrics["recall@4"] == 1.0


def test_per_class_table_with_any_name(pictures: Path, bundle: Path, tmp_path: Path):
    metrics = run(tmp_path, bundle=str(bundle), data={"path": str(pictures / "names.txt")})
    with (tmp_path / "per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == set(NAMES)
    assert [int(row["queries"]) for row in rows] == [PER_CLASS] * 6
    recall = [float(row["recall@1"]) for row in rows]
    assert recall == sorted(recall), "worst first"
    for name in ("recall@1", "r_precision", "map@r"):
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(metrics[name], abs=1e-6)


def test_the_picture_is_drawn_from_the_images_and_comes_out_the_same(pictures: Path, bundle: Path, tmp_path: Path):
    for name in ("a", "b"):
        run(tmp_path / name, bundle=str(bundle), data={"path": str(pictures / "names.txt")})
    first, second = ((tmp_path / name / "retrieval.png").read_bytes() for name in "ab")
    assert first == second
    with Image.open(tmp_path / "a/retrieval.png") as page:
        assert page.width > 1000 and page.height > 1000
        assert page.convert("L").histogram()[128] < 10_000, "pictures, not grey squares"


def test_a_backbone_without_any_training(pictures: Path, tmp_path: Path):
    model = {"backbone": "conv4", "pretrained": None}
    spec = {"model": model, "image": {"image_size": 32}, "data": {"path": str(pictures / "integers.txt")}}
    metrics = run(tmp_path / "a", **spec)
    assert run(tmp_path / "b", **spec) == metrics, "random weights are seeded"
    assert run(tmp_path / "c", seed=1, **spec) != metrics
    header = json.loads((tmp_path / "a/evaluation.json").read_text())
    assert header["model"] == "conv4 (random)" and header["model_hash"] is None


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_another_tools_vectors_under_each_metric(metric: str, tmp_path: Path):
    """Labels may be any integers, vectors of any number type."""
    generator = np.random.default_rng(0)
    label_N = np.repeat([3, 10**15, 7], 6)
    vectors = generator.normal(size=(18, 5)) + np.repeat(generator.normal(size=(3, 5)), 6, axis=0)
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float64))
    np.save(tmp_path / "labels.npy", label_N)
    metrics = run(tmp_path / "out", embeddings=str(tmp_path), metric=metric, ks=[1, 3])
    expected = retrieval_metrics(torch.from_numpy(vectors).float(), torch.from_numpy(label_N), metric=metric, ks=[1, 3])
    assert {name: metrics[name] for name in expected.means} == expected.means
    assert not (tmp_path / "out/retrieval.png").exists()
    assert "1000000000000000" in (tmp_path / "out/per_class.csv").read_text()


def test_broken_images_are_left_out_counted_and_named(pictures: Path, bundle: Path, tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    lines = [(str(pictures / f"{label}/{number}.png"), label) for label in range(3) for number in range(3)]
    write_list(tmp_path / "list.txt", [*lines[:4], (str(tmp_path / "bad.jpg"), 1), *lines[4:]])
    spec = {"bundle": str(bundle), "data": {"path": str(tmp_path / "list.txt")}, "save_embeddings": True}
    with pytest.raises(DataError, match="1 of 10 images cannot be used"):
        run(tmp_path / "strict", **spec)
    metrics = run(tmp_path / "out", max_broken=0.2, **spec)
    assert (metrics["broken_images"], metrics["gallery"]) == (1, 9)
    header = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert header["broken_images"][0]["image"] == str(tmp_path / "bad.jpg")
    kept = load_embeddings(tmp_path / "out/embeddings")
    assert kept.uri_N.to_pylist() == [image for image, _ in lines]
    clean = write_list(tmp_path / "clean.txt", lines)
    again = run(tmp_path / "again", **{**spec, "data": {"path": str(clean)}})
    assert {k: v for k, v in again.items() if k != "broken_images"} == {
        k: v for k, v in metrics.items() if k != "broken_images"
    }
