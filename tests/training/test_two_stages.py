"""A second training that begins where a first one ended: from its run, its bundle or a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from train_runs import Settings, spec_of

from kinsight import train
from kinsight.errors import DataError, SpecError


@pytest.fixture
def first(settings: Settings) -> dict[str, Any]:
    spec = spec_of(settings) | {"steps": 8, "checkpoint": {"every_epochs": 1, "keep": 9}, "loss": {"kind": "softmax"}}
    train(spec)
    return spec


def _second(first: dict[str, Any], place: str, tmp_path: Path, **others: Any) -> dict[str, Any]:
    model = {**first["model"], "init_from": place}
    model.pop("pretrained")
    spec = first | {
        "output": str(tmp_path / "second"),
        "model": model,
        "steps": 1,
        "freeze": {"parts": ["backbone", "neck"]},
    }
    return spec | others


@pytest.mark.parametrize(("place", "step"), [("", 8), ("/bundle", 8), ("/checkpoints/step-00000004", 4)])
def test_begins_with_the_weights_of(place: str, step: int, first: dict[str, Any], tmp_path: Path) -> None:
    """Everything is frozen, so that the second bundle holds what it began with; the head is another one."""
    train(_second(first, first["output"] + place, tmp_path, loss={"kind": "arcface"}))
    (file,) = Path(first["output"], f"checkpoints/step-{step:08d}").glob("*.safetensors")
    wanted = {name: array for name, array in load_file(file).items() if name.startswith("learner.net.")}
    found = load_file(tmp_path / "second/bundle/model.safetensors")
    assert found
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[f"learner.net.{name}"], err_msg=name)


def test_checkpoints_of_another_network_or_altered_ones(first: dict[str, Any], tmp_path: Path) -> None:
    place = first["output"] + "/checkpoints/step-00000004"
    other = _second(first, place, tmp_path)
    other["model"]["backbone"] = "resnet18"
    other["data"] = other["data"] | {"image_size": 32}
    with pytest.raises(SpecError, match="holds a conv4"):
        train(other)
    (file,) = Path(place).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DataError, match="bytes long"):
        train(_second(first, place, tmp_path))


def test_pairs_after_classes(first: dict[str, Any], tmp_path: Path) -> None:
    """The usual second stage: a loss over pairs beside a weighted one over classes, the backbone thawed later."""
    spec = _second(first, first["output"], tmp_path, steps=6, freeze={"parts": ["backbone"], "steps": 2})
    spec |= {"loss": {"kind": "triplet", "miner": {"kind": "hard"}}, "sampler": {"kind": "per-class"}}
    spec["extra_losses"] = [{"kind": "arcface", "weight": 0.1}, {"kind": "vicreg", "weight": 0.01}]
    spec["optimizer"] = {"kind": "adamw", "lr": 1e-3, "layer_decay": 0.8, "head_lr_scale": 10}
    result = train(spec)
    assert result is not None
