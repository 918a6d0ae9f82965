"""What else can be done with a trained classifier: vectors, indexes, searches, snapshots, further trainings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from train_runs import Settings, spec_of

import kinsight
from kinsight.errors import SpecError
from kinsight.indexing import build
from kinsight.models import load_bundle


@pytest.fixture
def plan(settings: Settings, image_folder: Path) -> Settings:
    kept = {key: value for key, value in settings.items() if key != "model.embedding-dim"}
    return kept | {
        "task": "multilabel",
        "loss.kind": "focal",
        "data.validation.path": str(image_folder / "train/list.txt"),
        "report": None,
        "steps": 4,
        "precision": "fp32",
    }


def test_vectors_are_found_by_the_embedding(plan: Settings, tmp_path: Path, image_folder: Path) -> None:
    result = kinsight.train(spec_of(plan))
    data = {"path": str(image_folder / "validation/list.txt")}
    vectors, index = str(tmp_path / "vectors"), str(tmp_path / "index")
    kinsight.embed({"bundle": result.bundle, "data": data, "output": vectors, "workers": 0, "precision": "fp32"})
    table = pq.read_table(next(Path(vectors).glob("*.parquet")))
    assert len(table) == 24 and json.loads((Path(vectors) / "embeddings.json").read_text())["dim"] == 64
    build({"embeddings": vectors, "output": index})
    image = str(image_folder / "validation/2-1.png")
    found = kinsight.search({"index": index, "bundle": result.bundle, "images": [image], "k": 1, "device": "cpu"})
    assert found["uri"][0].as_py().endswith("validation/2-1.png") and found["similarity"][0].as_py() > 0.999
    judged = kinsight.evaluate({"embeddings": vectors, "output": str(tmp_path / "judged"), "report": None})
    assert 0 <= (judged.metrics["recall@1"] or 0) <= 1 and judged.task == "metric"


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_snapshots_hold_classifiers_to_start_from(task: str, plan: Settings, tmp_path: Path) -> None:
    loss = "softmax" if task == "classification" else "asl"
    base = plan | {"task": task, "loss.kind": loss}
    kinsight.train(spec_of(base | {"snapshots.every-steps": 2}))
    folder = Path(plan["output"]) / "snapshots/2"
    loaded = load_bundle(str(folder))
    weights = load_file(folder / "class_weights.safetensors")
    assert loaded.classifier is not None
    np.testing.assert_array_equal(loaded.classifier.weight.numpy(), weights["weight_CD"])
    further = {"output": str(tmp_path / "further"), "steps": 1, "optimizer.lr": 1e-12, "schedule.kind": "constant"}
    further |= {"head.init-from": str(folder), "model.init-from": str(folder)}
    result = kinsight.train(spec_of({**base, **further}))
    after = load_bundle(result.bundle)
    assert after.classifier is not None
    np.testing.assert_allclose(after.classifier.weight.numpy(), weights["weight_CD"], atol=1e-6)
    with pytest.raises(SpecError, match="its class weights are"):
        other: dict[str, Any] = {"loss.kind": "arcface" if task == "classification" else "bce"}
        kinsight.train(spec_of({**base, **further, **other, "output": str(tmp_path / "other")}))


def test_images_never_drawn_are_told(plan: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    listed = Path(plan["data.train.path"])
    bare = listed.with_name("some-bare.txt")
    bare.write_text(listed.read_text().replace("3-1.png 3", "3-1.png").replace("4-1.png 4", "4-1.png"))
    source = {"data.train.path": str(bare), "sampler.kind": "class-balanced"}
    kinsight.train(spec_of(plan | source | {"steps": 1}))
    assert "2 images without labels are never drawn" in capsys.readouterr().err
