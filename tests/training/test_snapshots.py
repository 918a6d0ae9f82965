"""Models along the way: what they hold, that a training goes on from them as if it had not stopped, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from train_runs import Settings, checkpoints, rows, spec_of

import kinsight
from kinsight import train
from kinsight.errors import DataError, SpecError
from kinsight.evaluation.class_weights import FILE, read_class_weights


@pytest.fixture
def spec(settings: Settings, image_folder: Path) -> dict[str, Any]:
    tree = spec_of(settings) | {"steps": 7, "snapshots": {"every_steps": 3}, "report": None}
    tree["data"]["validation"] = {"path": str(image_folder / "validation/list.txt")}
    return tree


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def test_each_is_a_model_of_its_step(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    spec |= {"validate": {"every_steps": 2}, "log_every_steps": 2, "checkpoint": {"every_steps": 5, "keep": 9}}
    train(spec)
    run = tmp_path / "run"
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == ["3", "6", "7"]
    assert checkpoints(run) == [f"step-{step:08d}" for step in (3, 5, 6, 7)]
    assert [row["step"] for row in rows(run) if row["kind"] == "validation"] == [2, 4, 6, 7]
    assert [row["step"] for row in rows(run) if row["kind"] == "train"] == [2, 4, 6, 7]
    three, seven = weights(run / "snapshots/3"), weights(run / "snapshots/7")
    assert any(not np.array_equal(three[name], seven[name]) for name in three)

    model = kinsight.load(run / "snapshots/7")
    images = [str(path) for path in sorted((image_folder / "train").glob("*-0.png"))]
    emb_ND = torch.from_numpy(model.embed(images))
    found = read_class_weights(run / "snapshots/7")
    assert found is not None and found.loss.kind == "am-softmax" and len(found.class_names) == 8
    (saved,) = (run / "snapshots/7/checkpoint").glob("*.safetensors")
    np.testing.assert_array_equal(
        found.state["weight_CD"], load_file(saved)["learner.objective.terms.0.head.weight_CD"]
    )
    with torch.inference_mode():
        scores_NC = found.head().logits(emb_ND)
    cosine_NC = torch.nn.functional.normalize(emb_ND) @ torch.nn.functional.normalize(found.state["weight_CD"]).T
    torch.testing.assert_close(scores_NC, 30 * cosine_NC)


def test_going_on_from_one_is_the_run_that_never_stopped(spec: dict[str, Any], tmp_path: Path) -> None:
    train(spec)
    again = spec | {"output": str(tmp_path / "again"), "resume_from": str(tmp_path / "run/snapshots/3")}
    train(again)
    for name, value in weights(tmp_path / "run/snapshots/7").items():
        np.testing.assert_array_equal(weights(tmp_path / "again/snapshots/7")[name], value)
    assert [row["step"] for row in rows(tmp_path / "again") if row["kind"] == "train"] == [7]
    shutil.rmtree(tmp_path / "run")
    train(again | {"output": str(tmp_path / "longer"), "resume_from": str(tmp_path / "again/snapshots/7"), "steps": 9})
    assert json.loads((tmp_path / "longer/run.json").read_text())["position"]["step"] == 9


def test_going_on_is_refused(spec: dict[str, Any], tmp_path: Path) -> None:
    train(spec)
    again = spec | {"output": str(tmp_path / "again"), "resume_from": str(tmp_path / "run/snapshots/7")}
    with pytest.raises(SpecError, match=r"run/snapshots/7: is at step 7, and this training ends at step 7 of 7"):
        train(again)
    with pytest.raises(DataError, match="holds no state of a training"):
        train(again | {"output": str(tmp_path / "third"), "resume_from": str(tmp_path / "run/bundle")})
    assert not (tmp_path / "third").exists()
    with pytest.raises(DataError, match=r"does not fit this model: .*bias_C"):
        train(
            again
            | {
                "output": str(tmp_path / "third"),
                "resume_from": str(tmp_path / "run/snapshots/3"),
                "loss": {"kind": "softmax"},
            }
        )
    with pytest.raises(SpecError, match=r"model\.init_from has no effect with resume_from"):
        train(again | {"model": spec["model"] | {"init_from": str(tmp_path / "run")}})


def test_class_weights_start_from_a_snapshot(spec: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    train(spec)
    source = str(tmp_path / "run/snapshots/7")
    tiny = {"optimizer": {"lr": 1e-12}, "schedule": {"kind": "constant"}, "steps": 1}
    here = spec | tiny | {"output": str(tmp_path / "again"), "head": {"init_from": source}}
    train(here)
    first, second = (read_class_weights(folder) for folder in (source, tmp_path / "again/snapshots/1"))
    assert first is not None and second is not None
    torch.testing.assert_close(first.state["weight_CD"], second.state["weight_CD"], rtol=0, atol=1e-6)
    with pytest.raises(SpecError, match="its class weights are am-softmax's, not softmax's") as caught:
        train(here | {"output": str(tmp_path / "other"), "loss": {"kind": "softmax"}})
    assert caught.value.field == "head.init_from" and "give RUN/snapshots/N" in (caught.value.remedy or "")
    plain = {"output": str(tmp_path / "plain"), "snapshots": None}
    train(spec | tiny | plain)
    with pytest.raises(SpecError, match="plain: holds no class weights"):
        train(here | {"output": str(tmp_path / "other"), "head": {"init_from": plain["output"]}})
    Path(source, FILE).write_bytes(b"\0" * 64)
    with pytest.raises(DataError, match=r"class_weights\.safetensors: does not belong to the bundle"):
        train(here | {"output": str(tmp_path / "third")})


def test_one_rhythm_of_validation(spec: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"validate\.every_steps and validate\.every_epochs are both set"):
        train(spec | {"validate": {"every_steps": 2, "every_epochs": 2}})
    with pytest.raises(SpecError, match=r"head\.init_from has no effect with loss\.kind=triplet"):
        train(spec | {"loss": {"kind": "triplet"}, "head": {"init_from": "x"}})
