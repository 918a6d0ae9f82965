"""Parts that are not trained, or later; layers that learn more slowly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paced import rest_at_each_step
from safetensors.numpy import load_file
from train_runs import Settings, checkpoints, finish, finish_group, flags, outcome, spec_of, start

from kinsight import train
from kinsight.errors import KinsightError, SpecError
from kinsight.models import build_network
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec


@pytest.fixture
def spec(settings: Settings) -> dict[str, Any]:
    found = spec_of(settings) | {"steps": 4, "precision": "fp32", "schedule": {"kind": "constant"}}
    found["model"] |= {"neck": {"kind": "bnneck"}}
    found["checkpoint"] = {"every_epochs": 1, "keep": 100}
    return found


def _weights(output: str) -> dict[str, np.ndarray]:
    return load_file(Path(output, "bundle/model.safetensors"))


def _first(spec: dict[str, Any]) -> dict[str, np.ndarray]:
    model = ModelSpec.model_validate(spec["model"])
    image = ImageSpec(image_size=28, color="gray", crop=1)
    net = build_network(model, image=image, seed=spec.get("seed", 0))
    return {name: tensor.numpy() for name, tensor in net.bundled_state().items()}


def moved(spec: dict[str, Any]) -> set[str]:
    """Which weights and statistics a training changes."""
    train(spec)
    before, after = _first(spec), _weights(spec["output"])
    return {name for name, array in after.items() if not np.array_equal(before[name], array)}


def test_a_frozen_backbone_keeps_weights_and_statistics(spec: dict[str, Any]) -> None:
    changed = moved(spec | {"freeze": {"parts": ["backbone"]}})
    assert changed and all(name.startswith("neck.") for name in changed)


def test_frozen_norms_keep_theirs_alone(spec: dict[str, Any]) -> None:
    changed = moved(spec | {"freeze": {"parts": ["norms"]}})
    assert not [name for name in changed if name.startswith("backbone.norms")]
    assert {f"backbone.convs.{number}.weight" for number in range(4)} <= changed


def test_first_layers(spec: dict[str, Any]) -> None:
    changed = moved(spec | {"freeze": {"first_layers": 2}})
    still = [name for name in changed if name.split(".")[1:3] in (["convs", "0"], ["norms", "1"])]
    assert not still
    assert {"backbone.convs.2.weight", "backbone.norms.3.running_mean"} <= changed


def test_thawed_after_some_steps(spec: dict[str, Any]) -> None:
    """The backbone moves from then on, and only then; validations in between change nothing of it."""
    spec["data"]["validation"] = spec["data"]["train"]
    spec |= {"freeze": {"parts": ["backbone"], "steps": 4}, "steps": 8}
    train(spec)

    def backbone(step: int) -> np.ndarray:
        (file,) = Path(spec["output"], f"checkpoints/step-{step:08d}").glob("*.safetensors")
        found = [array for name, array in load_file(file).items() if name.endswith("convs.0.weight")]
        return found[0]

    np.testing.assert_array_equal(backbone(4), _first(spec)["backbone.convs.0.weight"])
    assert not np.array_equal(backbone(8), backbone(4))


def test_stopped_before_and_after_the_thaw(settings: Settings, tmp_path: Path) -> None:
    base = settings | {"freeze.parts": ["backbone"], "freeze.steps": 6, "checkpoint.every-minutes": 1e-6}
    finish(["train", *flags(base | {"output": str(tmp_path / "whole")})], tmp_path / "whole.log")
    output = tmp_path / "killed"
    words = ["train", *flags(base | {"output": str(output)})]
    for step in (3, 8):
        run = start(words, tmp_path / f"log{step}", before=rest_at_each_step)
        run.signal_when(lambda step=step: max(checkpoints(output), default="") >= f"step-{step:08d}")
    finish(words, tmp_path / "log")
    assert outcome(output) == outcome(tmp_path / "whole")


def test_two_processes_thaw_together(settings: Settings, tmp_path: Path) -> None:
    base = settings | {"freeze.parts": ["backbone"], "freeze.steps": 2, "steps": 4, "precision": "fp32"}
    base |= {"schedule.warmup-steps": 0, "model.backbone": "test_convnext.r160_in1k"}
    base |= {"data.image-size": 32, "data.color": "rgb"}
    for world in (1, 2):
        words = ["train", *flags(base | {"output": str(tmp_path / str(world))})]
        finish_group(words, world, tmp_path / f"log{world}")
    one, two = _weights(str(tmp_path / "1")), _weights(str(tmp_path / "2"))
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-3, atol=1e-4 * np.abs(array).max(), err_msg=name)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ({"parts": ["backbone", "norms"]}, "have no effect"),
        ({}, "set freeze.parts"),
        ({"first_layers": 9}, "the backbone has 4 layers"),
        ({"parts": ["backbone", "neck"]}, "nothing is left to train"),
        ({"parts": ["backbone"], "steps": 10_000}, "what is frozen for 10000 never thaws"),
    ],
)
def test_what_cannot_be_frozen(freeze: dict[str, Any], message: str, spec: dict[str, Any]) -> None:
    spec |= {"loss": {"kind": "supcon"}, "sampler": {"kind": "per-class"}, "freeze": freeze}
    with pytest.raises(KinsightError, match=message) as caught:
        train(spec)
    assert isinstance(caught.value, SpecError)


def test_thaws_before_the_last_step_at_the_latest(spec: dict[str, Any]) -> None:
    spec |= {"steps": 3, "freeze": {"parts": ["backbone"], "steps": 3}}
    with pytest.raises(SpecError, match="the training has 3 steps") as caught:
        train(spec)
    assert caught.value.field == "freeze.steps=3" and "below 3" in (caught.value.remedy or "")
    spec["freeze"]["steps"] = 2
    assert train(spec).steps == 3


def test_layers_learn_by_their_place(spec: dict[str, Any]) -> None:
    """One step of plain descent: each block moves half as far, for its gradient, as without."""
    spec |= {"steps": 1, "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0, "weight_decay": 0}}
    found = {}
    for decay in (1.0, 0.5):
        train(spec | {"output": f"{spec['output']}-{decay}", "optimizer": spec["optimizer"] | {"layer_decay": decay}})
        after, before = _weights(f"{spec['output']}-{decay}"), _first(spec)
        found[decay] = [after[f"backbone.convs.{n}.weight"] - before[f"backbone.convs.{n}.weight"] for n in range(4)]
    for number in range(4):
        np.testing.assert_allclose(found[0.5][number], found[1.0][number] * 0.5 ** (3 - number), rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("name", ["conv4", "test_convnext.r160_in1k", "test_vit.r160_in1k", "resnet18"])
def test_layers_are_numbered_from_the_pixels(name: str) -> None:
    size = {"conv4": 28}.get(name, 160)
    net = build_network(ModelSpec(backbone=name, pretrained=None), image=ImageSpec(image_size=size), seed=0)
    layers = net.backbone_layers()
    assert set(layers) == {name for name, _ in net.backbone.named_parameters()}
    assert sorted(set(layers.values())) == list(range(max(layers.values()) + 1))
    first = next(name for name, _ in net.backbone.named_parameters())
    assert layers[first] == 0 and torch.is_tensor(next(iter(net.backbone.parameters())))
