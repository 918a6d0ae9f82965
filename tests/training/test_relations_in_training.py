"""Images of several labels, in super-classes, or alike to a degree: from the list to the metrics."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_runs import Settings, rows, spec_of

import kinsight
from kinsight import train
from kinsight.data import read_records
from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.evaluation.targets import build_targets
from kinsight.specs.data import Csv
from kinsight.specs.relations import HierarchySpec


@pytest.fixture
def spec(settings: Settings) -> dict[str, Any]:
    found = spec_of(settings) | {"steps": 4, "loss": {"kind": "supcon"}}
    return found | {"sampler": {"kind": "per-class", "samples_per_class": 4}}


def _lines(listed: Path) -> list[list[str]]:
    return [line.rsplit(" ", 1) for line in listed.read_text().splitlines()]


def several(image_folder: Path, tmp_path: Path, part: str) -> dict[str, str]:
    """A list whose images of class c have the labels c and, half of them, the next one's."""
    lines = []
    for number, (name, label) in enumerate(_lines(image_folder / part / "list.txt")):
        lines.append(f"{name} {label}" + (f" {int(label) + 1}" if number % 2 else ""))
    (tmp_path / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return {"path": str(tmp_path / f"{part}.txt"), "root": str(image_folder / part)}


def grouped(image_folder: Path, tmp_path: Path) -> dict[str, str]:
    """A CSV of classes in super-classes of two."""
    lines = ["image,label,kind"]
    lines += [f"{name},{label},{int(label) // 2}" for name, label in _lines(image_folder / "train/list.txt")]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    return {"path": str(tmp_path / "train.csv"), "format": "csv", "root": str(image_folder / "train")}


@pytest.mark.parametrize("loss", [{"kind": "supcon"}, {"kind": "proxy-anchor"}, {"kind": "recall-at-k"}])
def test_several_labels(loss: dict[str, str], spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    spec["data"] |= {part: several(image_folder, tmp_path, part) for part in ("train", "validation")}
    spec |= {"relation": {"kind": "shared-labels"}, "loss": loss}
    result = train(spec)
    validated = [row for row in rows(Path(spec["output"])) if row["kind"] == "validation"]
    assert validated and 0 < validated[-1]["recall@1"] <= 1 and validated[-1]["map@r"] > 0
    assert result is not None
    end = json.loads(Path(spec["output"], "run.json").read_text())["validation"]
    best = max(row["recall@1"] for row in validated)
    assert end["metrics"]["recall@1"] == pytest.approx(best) and "auc" not in end["metrics"]
    assert "one label per image" in end["not_measurable"]["verification"]
    report = Path(spec["output"], "report/index.html").read_text()
    assert "data:image/" in report and "needs one label per image" in report and "Hardest labels" in report
    evaluated = kinsight.evaluate(
        {"bundle": spec["output"], "data": spec["data"]["validation"], "output": str(tmp_path / "out"), "workers": 0,
         "device": "cpu", "report": None}
    ).metrics  # fmt: skip
    assert evaluated == end["metrics"], "the relation is that of the bundle"
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["relation_from"] == "bundle"


def test_a_loss_over_classes_wants_one(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    spec["data"]["train"] = several(image_folder, tmp_path, "train")
    with pytest.raises(KinsightError, match="takes one class per image"):
        train(spec | {"loss": {"kind": "arcface"}, "relation": {"kind": "shared-labels"}})
    with pytest.raises(DataError, match="one label"):
        train(spec)


def test_super_classes(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    spec["data"]["train"] = grouped(image_folder, tmp_path)
    spec["sampler"] = {"kind": "hierarchical", "samples_per_class": 2, "super_classes": 2, "column": "kind"}
    spec |= {"relation": {"kind": "hierarchy", "columns": ["kind"], "weights": [1.0, 0.25]}, "batch": {"size": 8}}
    spec["loss"] = {"kind": "triplet", "miner": {"kind": "hard"}}
    spec["extra_losses"] = [{"kind": "am-softmax"}]
    train(spec)
    logged = [row for row in rows(Path(spec["output"])) if row["kind"] == "train"]
    assert logged[-1]["triplet.loss"] > 0 and logged[-1]["am-softmax.accuracy"] >= 0


def test_columns_that_are_not_there(spec: dict[str, Any]) -> None:
    spec |= {"relation": {"kind": "hierarchy"}}
    with pytest.raises(DataError, match="has no column group"):
        train(spec)


def test_classes_alike_to_a_degree(spec: dict[str, Any], tmp_path: Path) -> None:
    near = np.maximum(0, 1 - np.abs(np.subtract.outer(np.arange(8), np.arange(8))) / 4).astype(np.float32)
    np.save(tmp_path / "near.npy", near)
    spec["relation"] = {"kind": "soft-labels", "path": str(tmp_path / "near.npy"), "positive_from": 0.7}
    train(spec)
    assert [row for row in rows(Path(spec["output"])) if row["kind"] == "train"][-1]["loss"] > 0


def test_unknown_super_classes_are_alike_to_none(image_folder: Path, tmp_path: Path) -> None:
    listed = grouped(image_folder, tmp_path)
    text = Path(listed["path"]).read_text().replace(",kind", ",super")
    Path(listed["path"]).write_text(
        "\n".join(line.removesuffix(",0") + ("," * line.endswith(",0")) for line in text.splitlines())
    )
    for column in ("group", "super"):
        records = read_records(Csv(**listed | {"group_column": "super"}))  # type: ignore[arg-type]
        target_N = build_targets(HierarchySpec(columns=[column]), records).target_N
        assert (target_N[:, 1] == -1).sum() == sum(
            int(name) < 2 for name in np.array(records.class_names)[target_N[:, 0]]
        )
        assert len(target_N[:, 1].unique()) == 4


def test_other_super_classes_are_another_training(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    listed = grouped(image_folder, tmp_path)
    spec["data"] |= {"train": listed}
    spec |= {"relation": {"kind": "hierarchy", "columns": ["kind"]}, "checkpoint": {"every_steps": 2}}
    train(spec | {"steps": 4})
    Path(spec["output"], "run.json").unlink()
    Path(listed["path"]).write_text(Path(listed["path"]).read_text().replace(",3\n", ",2\n"))
    with pytest.raises(KinsightError, match="relation"):
        train(spec | {"steps": 4})


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((3, 3), np.float32), "one for each two of the 8 classes"),
        (np.ones((8, 8), np.int64), "expected floating numbers"),
        (np.triu(np.ones((8, 8), np.float32)), "symmetric"),
        (np.array([{}] * 64).reshape(8, 8), "allow_pickle"),
    ],
    ids=["size", "type", "asymmetric", "objects"],
)
def test_similarities_that_do_not_fit(matrix: np.ndarray, message: str, spec: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "near.npy", matrix, allow_pickle=True)
    spec["relation"] = {"kind": "soft-labels", "path": str(tmp_path / "near.npy")}
    with pytest.raises(DataError, match=message):
        train(spec)
    assert not Path(spec["output"], "spec.yaml").exists()


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ({"size": 50, "warmup_steps": 0}, "more than the 62 training images"),
        ({"size": 20, "warmup_steps": 3}, "never used"),
    ],
)
def test_memories_that_do_not_fit(memory: dict[str, int], message: str, spec: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        train(spec | {"loss": {"kind": "supcon", "memory": memory}})
    assert caught.value.remedy and "loss.memory" in (caught.value.field or "")


def test_a_memory_adds_what_a_larger_batch_would(spec: dict[str, Any], tmp_path: Path) -> None:
    """Without moving weights, the rows of the memory are those the images would have now: more anchors find a match."""
    spec |= {"sampler": {"kind": "shuffle"}, "optimizer": {"kind": "sgd", "lr": 1e-12}}
    found = {}
    for name, memory in (("alone", None), ("memory", {"size": 46, "warmup_steps": 0})):
        loss = {"kind": "supcon", "memory": memory}
        train(spec | {"steps": 4, "output": str(tmp_path / name), "loss": loss})
        found[name] = [row for row in rows(tmp_path / name) if row["kind"] == "train"][-1]["supcon.anchors"]
    assert found["memory"] > found["alone"]
    assert json.loads((tmp_path / "memory/run.json").read_text())["position"]["step"] == 4


@pytest.mark.parametrize(
    ("loss", "extra"), [({"kind": "proxy-anchor"}, []), ({"kind": "supcon"}, [{"kind": "triplet", "weight": 0.1}])]
)
def test_weights_of_pairs_that_nothing_reads(loss: dict[str, Any], extra: list[Any], spec: dict[str, Any]) -> None:
    spec |= {"relation": {"kind": "shared-labels", "weighted": True}, "loss": loss, "extra_losses": extra}
    with pytest.raises(SpecError, match=r"relation\.weighted has no effect"):
        train(spec)


def test_levels_weigh_half_as_much_from_one_to_the_next() -> None:
    assert HierarchySpec(columns=["kind", "shop"]).level_weights == (1.0, 0.5, 0.25)
    assert HierarchySpec(weights=[2, 3]).level_weights == (2.0, 3.0)
