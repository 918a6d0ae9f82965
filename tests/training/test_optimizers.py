"""Parameter groups, and every optimizer with every schedule."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from train_runs import Settings, spec_of

from kinsight import train
from kinsight.losses import build_objective
from kinsight.models import build_network
from kinsight.specs.data import ImageSpec
from kinsight.specs.load import as_tree
from kinsight.specs.losses import AMSoftmax
from kinsight.specs.model import ModelSpec
from kinsight.specs.optim import Adam, Optimizer, Sgd
from kinsight.specs.train import TrainSpec
from kinsight.training.optimizers import build_optimizer, set_learning_rate

OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "sgd", "lr": 0.01},
    {"kind": "sgd", "lr": 0.01, "momentum": 0, "weight_decay": 0},
    {"kind": "sgd", "lr": 0.01, "nesterov": True},
    {"kind": "adamw", "lr": 0.001},
    {"kind": "adam", "lr": 0.001, "weight_decay": 0.01},
]
SCHEDULES: list[dict[str, Any]] = [
    {"kind": "cosine", "warmup_steps": 1},
    {"kind": "step", "at": [1], "unit": "steps"},
    {"kind": "step", "at": [1, 2], "unit": "steps", "learning_rates": [0.02, 0.005]},
    {"kind": "exponential"},
    {"kind": "polynomial"},
    {"kind": "constant"},
]


def test_the_lists_name_every_kind() -> None:
    fields = TrainSpec.model_fields
    for name, listed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        kinds = TypeAdapter(fields[name].annotation).json_schema()["$defs"]
        assert {kind["properties"]["kind"]["const"] for kind in kinds.values()} == {one["kind"] for one in listed}


@pytest.mark.parametrize("kind", ["sgd", "adamw", "adam"])
def test_groups(kind: str) -> None:
    spec = TypeAdapter(Optimizer).validate_python({"kind": kind, "lr": 0.5, "weight_decay": 0.1, "head_lr_scale": 4})
    model = ModelSpec.model_validate(
        {"backbone": "conv4", "pretrained": None, "embedding_dim": 6, "neck": {"kind": "bnneck"}}
    )
    net = build_network(model, image=ImageSpec(image_size=28, color="gray"), seed=0)
    objective = build_objective(AMSoftmax(), num_classes=5, embedding_dim=6)
    optimizer = build_optimizer(spec, net, objective)
    named = {id(p): name for name, p in [*net.named_parameters(), *objective.named_parameters()]}
    placed: dict[str, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert named[id(parameter)] not in placed
            placed[named[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert set(placed) == set(named.values())
    for name, (rate, decay) in placed.items():
        assert rate == (0.5 if name.startswith("backbone.") else 2.0), name
        matrix = dict([*net.named_parameters(), *objective.named_parameters()])[name].ndim > 1
        assert decay == (0.1 if matrix else 0.0), name
    set_learning_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25, 1.0}


def test_two_steps_of_sgd_by_hand() -> None:
    objective = torch.nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(Sgd(lr=0.1, momentum=0.5, weight_decay=0.2), _NoParameters(), objective)  # type: ignore[arg-type]
    with torch.no_grad():
        objective.weight.fill_(2.0)
    # 1 + 0.2 * 2 = 1.4; then 0.5 * 1.4 + 1 + 0.2 * 1.86 = 2.072
    for expected in (2 - 0.1 * 1.4, 1.86 - 0.1 * 2.072):
        objective.weight.grad = torch.ones(1, 1)
        optimizer.step()
        assert objective.weight.item() == pytest.approx(expected)


def test_adam_takes_the_penalty_into_the_gradient() -> None:
    objective = torch.nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(Adam(lr=0.1, beta1=0.5, beta2=0.75, weight_decay=0.2), _NoParameters(), objective)  # type: ignore[arg-type]
    with torch.no_grad():
        objective.weight.fill_(2.0)
    # gradients 1 + 0.2 * 2 = 1.4, then -3 + 0.2 * 1.9 = -2.62; the first step is lr, whatever the gradient
    mean, square = (0.5 * 0.5 * 1.4 - 0.5 * 2.62) / 0.75, (0.75 * 0.25 * 1.96 + 0.25 * 2.62**2) / (1 - 0.75**2)
    for slope, expected in ((1.0, 1.9), (-3.0, 1.9 - 0.1 * mean / square**0.5)):
        objective.weight.grad = torch.full((1, 1), slope)
        optimizer.step()
        assert objective.weight.item() == pytest.approx(expected)


class _NoParameters:
    def tagged_parameters(self) -> list[Any]:
        return []


ARMS = [(one, SCHEDULES[0]) for one in OPTIMIZERS] + [(OPTIMIZERS[0], one) for one in SCHEDULES[1:]]


@pytest.mark.parametrize(("optimizer", "schedule"), ARMS, ids=lambda one: "-".join(map(str, one.values())))
def test_every_arm_trains_and_resumes(optimizer: dict[str, Any], schedule: dict[str, Any], settings: Settings) -> None:
    spec = spec_of(settings) | {"optimizer": optimizer, "schedule": schedule, "steps": 3}
    checked = TrainSpec.model_validate(spec)
    assert TrainSpec.model_validate(as_tree(checked)) == checked
    spec["checkpoint"] = {"every_minutes": 1e-9, "keep": 3}
    output = Path(spec["output"])
    assert train(spec).steps == 3
    whole = (output / "bundle/model.safetensors").read_bytes()
    (output / "run.json").unlink()
    shutil.rmtree(output / "checkpoints/step-00000003")
    train(spec)
    assert (output / "bundle/model.safetensors").read_bytes() == whole
