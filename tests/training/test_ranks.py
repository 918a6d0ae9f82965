"""Several processes train what one process trains on the whole batch; interrupted, they go on, in any number."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from paced import rest_at_each_step
from safetensors.numpy import load_file
from train_runs import Settings, checkpoints, finish, finish_group, flags, outcome, rows, start_group

LOSSES: dict[str, Settings] = {
    # 6 + 5 + 5 images of each batch
    "am-softmax": {"optimizer.head-lr-scale": 2},
    "supcon": {
        "loss.kind": "supcon",
        "loss.temperature": 0.5,
        "sampler.kind": "per-class",
        "sampler.samples-per-class": 2,
        "batch.size": 14,
    },
    # a network without batch norm: its statistics would be those of the pieces
    "cached-gradients": {
        "model.backbone": "test_convnext.r160_in1k",
        "data.image-size": 32,
        "data.color": "rgb",
        "loss.kind": "triplet",
        "loss.memory.size": 30,
        "loss.memory.warmup-steps": 0,
        "extra-losses": [{"kind": "am-softmax"}, {"kind": "proxy-anchor"}],
        "sampler.kind": "per-class",
        "sampler.samples-per-class": 2,
        "batch.accumulate": 2,
    },
    # pairs of neighbours stay on one process: 6 + 6 + 4 images
    "classes-cutmix": {
        "task": "classification",
        "model.neck.kind": "linear",
        "mix.kind": "cutmix",
        "long-tail.kind": "class-balanced",
    },
    "labels-mixup": {
        "task": "multilabel",
        "model.neck.kind": "linear",
        "mix.kind": "mixup",
        "mix.alpha": 1,
        "loss.kind": "asl",
        "extra-losses": [{"kind": "two-way"}],
    },
    "cgd": {
        "model.neck.kind": "cgd",
        "model.neck.branches": ["avg", "gem", "max"],
        "model.embedding-dim": 9,
        "loss.ce.weight": 0.5,
    },
}


def _without_dropout() -> None:
    import torch

    torch.nn.functional.dropout = lambda input, *args, **kwargs: input


@pytest.mark.parametrize("name", LOSSES)
def test_three_processes_equal_one(name: str, settings: Settings, tmp_path: Path) -> None:
    # Few steps: rounding becomes more where the larger of two nearly equal values decides (pooling).
    base = settings | LOSSES[name] | {"precision": "fp32", "schedule.warmup-steps": 0, "steps": 2}
    outputs = {world: tmp_path / str(world) for world in (1, 3)}
    for world, output in outputs.items():
        words = ["train", *flags(base | {"output": str(output)})]
        finish_group(words, world, tmp_path / f"log{world}", before=_without_dropout)
    weights = {world: load_file(output / "bundle/model.safetensors") for world, output in outputs.items()}
    assert weights[1].keys() == weights[3].keys()
    for key, one in weights[1].items():
        np.testing.assert_allclose(weights[3][key], one, rtol=1e-3, atol=1e-4 * np.abs(one).max(), err_msg=key)
    for one, three in zip(rows(outputs[1]), rows(outputs[3]), strict=True):
        assert three.pop("kind") == one.pop("kind") == "train"
        assert three == pytest.approx(one, rel=1e-4)


def test_three_processes_killed_and_resumed(settings: Settings, image_folder: Path, tmp_path: Path) -> None:
    """The same bits with as many processes; another number goes on too."""
    base = settings | {
        "data.validation.path": str(image_folder / "validation/list.txt"),
        "model.neck.kind": "bnneck",
        "optimizer.kind": "adamw",
        "ema.decay": 0.9,
        "checkpoint.every-minutes": 1e-6,
    }

    def words(name: str) -> list[str]:
        return ["train", *flags(base | {"output": str(tmp_path / name)})]

    finish_group(words("whole"), 3, tmp_path / "whole.log")
    runs = start_group(words("killed"), 3, tmp_path / "killed.log", before=rest_at_each_step)
    runs[0].signal_when(lambda: "step-00000006" in checkpoints(tmp_path / "killed"))
    for run in runs[1:]:
        run.process.kill()
        run.wait()
    shutil.copytree(tmp_path / "killed", tmp_path / "other")
    assert "from step" in finish_group(words("killed"), 3, tmp_path / "resumed.log")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")

    assert "from step" in finish(words("other"), tmp_path / "other.log")
    steps = [row["step"] for row in rows(tmp_path / "other")]
    assert steps == [row["step"] for row in rows(tmp_path / "whole")]
    position = json.loads((tmp_path / "other/run.json").read_text())["position"]
    assert (position["step"], position["images"]) == (12, 3 * 62)
