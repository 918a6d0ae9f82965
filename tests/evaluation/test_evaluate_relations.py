"""Evaluations of images with several labels, with super-classes, or alike to a degree, against sorted lists."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kinsight
from kinsight.errors import DataError, SpecError
from kinsight.evaluation import load_embeddings
from kinsight.models import load_header

Right = Callable[[int, int], bool]


def run(output: Path, **spec: object) -> dict[str, Any]:
    return kinsight.evaluate({"output": str(output), "workers": 0, "bootstrap": 50, "report": None, **spec}).metrics


def expected(query: np.ndarray, gallery: np.ndarray, right: Right, same: bool) -> dict[str, float]:
    """recall@1, recall@3, r_precision, map@r, map, mrr and the number of queries, in float64."""
    query, gallery = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery))
    rows = []
    for q in range(len(query)):
        others = [g for g in range(len(gallery)) if not (same and g == q)]
        others.sort(key=lambda g: (-(query[q] @ gallery[g]), g))
        places = [place for place, g in enumerate(others, 1) if right(q, g)]
        if places:
            precision = [number / place for number, place in enumerate(places, 1)]
            inside = [p for p, place in zip(precision, places, strict=True) if place <= len(places)]
            rows.append([places[0] <= 1, places[0] <= 3, len(inside) / len(places), sum(inside) / len(places),
                         sum(precision) / len(places), 1 / places[0]])  # fmt: skip
    names = ("recall@1", "recall@3", "r_precision", "map@r", "map", "mrr")
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)) | {"queries": float(len(rows))}


def shares(one: list[str], other: list[str], least: float) -> bool:
    both, either = set(one) & set(other), set(one) | set(other)
    return bool(both) and len(both) / len(either) >= least


def write_csv(path: Path, columns: list[str], rows: list[list[object]]) -> dict[str, str]:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return {"path": str(path), "format": "csv"}


def stored(folder: Path) -> tuple[np.ndarray, list[list[str]]]:
    found = load_embeddings(folder)
    lists = found.columns["labels"].to_pylist()
    return found.vector_ND.double().numpy(), [[found.class_names[label] for label in row] for row in lists]


def several(pictures: Path, path: Path, numbers: range, first: int = 0) -> dict[str, str]:
    """Images of the patterns; every other one also has the label of a later one. With all, one shares no label."""
    rows: list[list[object]] = []
    for label in range(first, 6):
        for number in numbers:
            labels = [f"<i>{label}</i>", f"<i>{(label + number) % 6}</i>", "odd"][: 1 + (number % 2) + (number == 3)]
            rows.append([str(pictures / f"{label}/{number}.png"), json.dumps(labels)])
    if not first:
        rows.append([str(pictures / "0/4.png"), '["alone"]'])
    return write_csv(path, ["image", "label"], rows)


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("with_gallery", [False, True])
def test_several_labels_equal_a_loop(
    share: float, with_gallery: bool, pictures: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinsight.evaluation.ranking._MOST_PAIRS", 100)  # blocks of a few queries
    sides = {"data": several(pictures, tmp_path / "q.csv", range(4))}
    if with_gallery:
        sides["gallery"] = several(pictures, tmp_path / "g.csv", range(1, 5), first=2)
    relation = {"kind": "shared-labels", "share": share}
    metrics = run(
        tmp_path / "out", bundle=str(bundle), relation=relation, ks=[1, 3], sizes=[5], save_embeddings=True, **sides
    )
    query, query_labels = stored(tmp_path / "out/embeddings")
    gallery, labels = stored(tmp_path / "out/gallery-embeddings") if with_gallery else (query, query_labels)
    for prefix, dim in (("", 12), ("dim=5/", 5)):
        wanted = expected(
            query[:, :dim], gallery[:, :dim], lambda q, g: shares(query_labels[q], labels[g], share), not with_gallery
        )
        found = {name: metrics[prefix + name] for name in wanted if name != "queries"}
        assert found == pytest.approx({name: wanted[name] for name in found}, abs=1e-9)
        assert metrics["queries"] == wanted["queries"] < len(query)
    assert metrics["gallery"] == len(gallery)
    assert metrics["classes"] == len({label for row in query_labels for label in row})
    assert not {"auc", "eer", "same_pairs"} & set(metrics)
    header = json.loads((tmp_path / "out/evaluation.json").read_text())
    if "recall@1.low" in metrics:
        assert metrics["recall@1.low"] <= metrics["recall@1"] <= metrics["recall@1.high"]
    else:
        assert "sets of labels with matches" in header["not_measurable"]["intervals"] and share
    for name in ("verification", "thresholds", "confused classes"):
        assert "one label per image" in header["not_measurable"][name]
    assert header["relation"] == relation | {"weighted": False} and header["relation_from"] == "settings"
    with (tmp_path / "out/per_class.csv").open(encoding="utf-8") as file:
        rows = {row["label"]: int(row["queries"]) for row in csv.DictReader(file)}
    if share == 0:
        assert rows["odd"] == sum("odd" in row for row in query_labels) and "alone" not in rows
    assert (tmp_path / "out/retrieval.png").exists()


def test_stored_vectors_with_several_labels(pictures: Path, bundle: Path, tmp_path: Path) -> None:
    data, relation = several(pictures, tmp_path / "q.csv", range(4)), {"kind": "shared-labels"}
    metrics = run(tmp_path / "a", bundle=str(bundle), data=data, relation=relation, save_embeddings=True)
    again = run(tmp_path / "b", embeddings=str(tmp_path / "a/embeddings"), relation=relation)
    assert again == metrics
    with pytest.raises(DataError, match="no single label") as caught:
        run(tmp_path / "c", embeddings=str(tmp_path / "a/embeddings"))
    assert "shared-labels" in (caught.value.remedy or "")


def test_expansion_and_reranking_take_several_labels(pictures: Path, bundle: Path, tmp_path: Path) -> None:
    given = {"bundle": str(bundle), "relation": {"kind": "shared-labels"}, "ks": [1, 3]}
    given["data"] = several(pictures, tmp_path / "q.csv", range(4))
    metrics = run(tmp_path / "a", **given, query_expansion={"k": 2}, rerank={"k1": 5, "k2": 3})
    assert metrics["improved/map@r.gain"] == pytest.approx(metrics["improved/map@r"] - metrics["map@r"])
    assert metrics["improved/map@r"] != metrics["map@r"]
    with pytest.raises(SpecError, match="one label per image") as caught:
        run(tmp_path / "b", **given, gallery_expansion={"k": 2})
    assert caught.value.field == "gallery_expansion"
    given["gallery"] = several(pictures, tmp_path / "g.csv", range(1, 5))
    assert "improved/recall@1" in run(tmp_path / "b", **given, gallery_expansion={"k": 2})
    with pytest.raises(SpecError, match="has no effect: verification"):
        run(tmp_path / "c", **given, max_pairs=5000)


def test_a_page_says_what_is_shared(pictures: Path, bundle: Path, tmp_path: Path) -> None:
    data = several(pictures, tmp_path / "q.csv", range(5))
    run(tmp_path, bundle=str(bundle), data=data, relation={"kind": "shared-labels"}, report={"map": "pca"})
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "images that share a label" in page and "Hardest labels" in page and page.count("data:image/") > 20
    assert (
        "Not measurable: needs one label per image" in page and "<i>" not in page and "&lt;i&gt;0&lt;/i&gt; + " in page
    )
    assert "same class" not in page and "query&#x27;s class" not in page


def test_one_label_each_is_the_same_question(pictures: Path, bundle: Path, tmp_path: Path) -> None:
    given = {"bundle": str(bundle), "data": {"path": str(pictures / "integers.txt")}, "write_thresholds": False}
    assert run(tmp_path / "a", **given, relation={"kind": "shared-labels"}) == run(tmp_path / "b", **given)


def grouped(pictures: Path, path: Path, numbers: range, labels: list[int]) -> dict[str, str]:
    rows: list[list[object]] = [
        [str(pictures / f"{label}/{number}.png"), f"c{label}", ["b", "", "a", "b", "a", "c"][label]]
        for label in labels
        for number in numbers
    ]
    return write_csv(path, ["image", "label", "kind"], rows)


@pytest.mark.parametrize("with_gallery", [False, True])
def test_a_column_of_groups_is_as_any_other(with_gallery: bool, pictures: Path, bundle: Path, tmp_path: Path) -> None:
    """The source's groups, texts and some of them unknown, equal the same column named by itself."""
    sides = {"data": grouped(pictures, tmp_path / "q.csv", range(3), [0, 1, 2, 3])}
    if with_gallery:
        sides["gallery"] = grouped(pictures, tmp_path / "g.csv", range(5), [5, 4, 3, 2, 1, 0])
    given = {"bundle": str(bundle), "ks": [1], "write_thresholds": False}
    named = run(tmp_path / "a", **given, **sides, relation={"kind": "hierarchy", "columns": ["kind"]})
    sides = {name: side | {"group_column": "kind"} for name, side in sides.items()}
    as_group = run(tmp_path / "b", **given, **sides, relation={"kind": "hierarchy"}, save_embeddings=True)
    for name in ("recall@1", "map@r"):
        assert as_group[f"level=group/{name}"] == named[f"level=kind/{name}"]
    both = {"gallery_embeddings": str(tmp_path / "b/gallery-embeddings")} if with_gallery else {}
    again = run(
        tmp_path / "c", embeddings=str(tmp_path / "b/embeddings"), ks=[1], relation={"kind": "hierarchy"}, **both
    )
    assert again["level=group/recall@1"] == as_group["level=group/recall@1"]


@pytest.mark.parametrize("with_gallery", [False, True])
def test_super_classes_beside_classes(with_gallery: bool, pictures: Path, bundle: Path, tmp_path: Path) -> None:
    """The gallery meets the super-classes in another order; an empty one is unknown, and alike to none."""
    sides = {"data": grouped(pictures, tmp_path / "q.csv", range(3), [0, 1, 2, 3, 4, 5])}
    if with_gallery:
        sides["gallery"] = grouped(pictures, tmp_path / "g.csv", range(3, 5), [5, 4, 3, 2, 1, 0])
    relation = {"kind": "hierarchy", "columns": ["kind"]}
    given = {"bundle": str(bundle), "ks": [1, 3], **sides, "write_thresholds": False}
    metrics = run(tmp_path / "out", **given, relation=relation, save_embeddings=True)
    plain = run(tmp_path / "plain", **given)
    assert {name: value for name, value in metrics.items() if not name.startswith("level=")} == plain
    query, labels = stored(tmp_path / "out/embeddings")
    gallery, others = stored(tmp_path / "out/gallery-embeddings") if with_gallery else (query, labels)
    kind = {"c0": "b", "c2": "a", "c3": "b", "c4": "a", "c5": "c"}
    wanted = expected(
        query, gallery, lambda q, g: kind.get(labels[q][0]) == kind.get(others[g][0], "?"), not with_gallery
    )
    del wanted["queries"]
    assert {name: metrics[f"level=kind/{name}"] for name in wanted} == pytest.approx(wanted, abs=1e-9)
    assert metrics["level=kind/recall@1"] != metrics["recall@1"]
    assert (
        "3 classes"
        in json.loads((tmp_path / "out/evaluation.json").read_text())["not_measurable"]["level=kind/intervals"]
    )


def test_degrees_of_likeness_beside_classes(pictures: Path, bundle: Path, tmp_path: Path) -> None:
    near = np.eye(6, dtype=np.float32)
    near[0, 1] = near[1, 0] = near[2, 5] = near[5, 2] = 0.8
    np.save(tmp_path / "near.npy", near)
    relation = {"kind": "soft-labels", "path": str(tmp_path / "near.npy")}
    given = {"bundle": str(bundle), "data": {"path": str(pictures / "integers.txt")}, "ks": [1, 3]}
    metrics = run(tmp_path / "out", **given, relation=relation, save_embeddings=True)
    query, labels = stored(tmp_path / "out/embeddings")
    wanted = expected(query, query, lambda q, g: near[int(labels[q][0]), int(labels[g][0])] > 0.7, True)
    del wanted["queries"]
    assert {name: metrics[f"level=alike/{name}"] for name in wanted} == pytest.approx(wanted, abs=1e-9)
    np.save(tmp_path / "near.npy", near[:4, :4])
    with pytest.raises(DataError, match="one for each two of the 6 classes"):
        run(tmp_path / "other", **given, relation=relation)


def trained_with(bundle: Path, folder: Path, relation: dict[str, Any], classes: list[str]) -> Path:
    """The bundle as if its training had had this relation."""
    folder.mkdir()
    header = load_header(bundle).model_dump(mode="json")
    header |= {"spec": {"relation": relation}, "class_names": classes}
    (folder / "bundle.json").write_text(json.dumps(header))
    (folder / "model.safetensors").write_bytes((bundle / "model.safetensors").read_bytes())
    return folder


def test_the_bundles_relation_where_none_is_set(
    pictures: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = several(pictures, tmp_path / "q.csv", range(4))
    shared = trained_with(bundle, tmp_path / "shared", {"kind": "shared-labels", "share": 0.5}, ["0"])
    metrics = run(tmp_path / "a", bundle=str(shared), data=data)
    assert "shared-labels (at least 50 % of the labels of both), as in the training" in capsys.readouterr().err
    assert metrics == run(
        tmp_path / "b", bundle=str(bundle), data=data, relation={"kind": "shared-labels", "share": 0.5}
    )
    with pytest.raises(DataError, match="one label: retrieval asks"):
        run(tmp_path / "c", bundle=str(shared), data=data, relation={"kind": "same-label"})


@pytest.mark.parametrize("kind", ["hierarchy", "soft-labels"])
def test_what_the_data_cannot_tell_is_named(kind: str, pictures: Path, bundle: Path, tmp_path: Path) -> None:
    """Asked for, it is an error; from the bundle, a level that is missing, with the reason."""
    np.save(tmp_path / "near.npy", np.eye(2, dtype=np.float32))
    relation = {"kind": kind} | ({"path": str(tmp_path / "near.npy")} if kind == "soft-labels" else {})
    data = {"path": str(pictures / "integers.txt")}
    with pytest.raises(DataError, match=r"no column group|one for each two of the 6 classes"):
        run(tmp_path / "a", bundle=str(bundle), data=data, relation=relation)
    of_it = trained_with(bundle, tmp_path / kind, relation, ["0", "1"])
    metrics = run(tmp_path / "b", bundle=str(of_it), data=data, write_thresholds=False)
    assert metrics == run(tmp_path / "c", bundle=str(bundle), data=data, write_thresholds=False)
    reasons = json.loads((tmp_path / "b/evaluation.json").read_text())["not_measurable"]
    name = "level=group" if kind == "hierarchy" else "level=alike"
    assert ("no column group" if kind == "hierarchy" else "no likeness is known of 2") in reasons[name]


def test_nobody_shares_a_label(pictures: Path, bundle: Path, tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [str(pictures / f"{label}/0.png"), json.dumps([f"a{label}", f"b{label // 2}"])] for label in range(4)
    ]
    data = write_csv(tmp_path / "q.csv", ["image", "label"], rows)
    with pytest.raises(DataError, match="none of the 4 queries has a match"):
        run(tmp_path / "out", bundle=str(bundle), data=data, relation={"kind": "shared-labels", "share": 0.9})
    assert run(tmp_path / "out", bundle=str(bundle), data=data, relation={"kind": "shared-labels"})["queries"] == 4
