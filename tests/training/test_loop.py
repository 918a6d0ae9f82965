"""What the loop does with gradients, validation and the best model, run in this process."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from train_runs import Settings, rows, spec_of

from kinsight import train
from kinsight.errors import RunError
from kinsight.specs.load import of
from kinsight.specs.train import TrainSpec
from kinsight.training import checkpoint
from kinsight.training.setup import prepare


def weights(output: str | Path, step: int, kind: str = "learner") -> dict[str, np.ndarray]:
    """A checkpoint's tensors of a kind."""
    (file,) = Path(output, f"checkpoints/step-{step:08d}").glob("*.safetensors")
    return {name.removeprefix(f"{kind}."): array for name, array in load_file(file).items() if name.startswith(kind)}


def test_pieces_equal_the_whole_batch(settings: Settings, tmp_path: Path) -> None:
    """Without batch normalisation a step from three pieces is the step from the whole batch."""
    spec = spec_of(settings) | {"steps": 3, "precision": "fp32"}
    spec["model"] |= {"backbone": "test_convnext.r160_in1k"}
    spec["data"] |= {"image_size": 32, "color": "rgb"}
    for pieces in (1, 3):
        train(spec | {"output": str(tmp_path / str(pieces)), "batch": {"size": 16, "accumulate": pieces}})
    one, three = weights(tmp_path / "1", 3), weights(tmp_path / "3", 3)
    for name, array in one.items():
        np.testing.assert_allclose(three[name], array, rtol=1e-3, atol=1e-5, err_msg=name)
    for one_row, three_row in zip(rows(tmp_path / "1"), rows(tmp_path / "3"), strict=True):
        assert three_row["loss"] == pytest.approx(one_row["loss"], rel=1e-5)


def test_the_gradient_is_clipped(settings: Settings) -> None:
    spec = spec_of(settings) | {"steps": 1, "clip_norm": 0.01, "precision": "fp32"}
    spec["optimizer"] = {"kind": "sgd", "lr": 0.5, "momentum": 0, "weight_decay": 0}
    spec["schedule"] = {"kind": "constant"}
    with contextlib.closing(prepare(of(TrainSpec, spec), torch.device("cpu"))) as prepared:
        before = {name: p.detach().numpy().copy() for name, p in prepared.training.learner.named_parameters()}
    train(spec)
    after = weights(spec["output"], 1)
    moved = np.sqrt(sum(float(np.square(after[name] - array).sum()) for name, array in before.items()))
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)


@pytest.fixture
def judged(settings: Settings, image_folder: Path) -> dict[str, Any]:
    """A spec with validation after each of four steps' epochs, all checkpoints kept."""
    spec = spec_of(settings)
    spec["data"]["validation"] = {"path": str(image_folder / "validation/list.txt")}
    spec["checkpoint"] = {"every_epochs": 1, "keep": 100}
    return spec | {"validate": {"metric": "map@r"}}


def test_the_best_model_is_kept(judged: dict[str, Any]) -> None:
    """Training with a rate that does harm: an early model is best, and it is that of its epoch, averaged."""
    spec = judged | {"steps": 24, "ema": {"decay": 0.5}, "optimizer": {"kind": "sgd", "lr": 1.0}}
    result = train(spec)
    values = {row["epoch"]: row["map@r"] for row in rows(Path(spec["output"])) if row["kind"] == "validation"}
    assert result.best == max(values.values())
    assert values[result.best_epoch] == result.best
    assert result.best_epoch < 6 and values[6] < result.best, "the rate did no harm"
    assert values != {}, rows(Path(spec["output"]))
    best = load_file(Path(spec["output"], "best/model.safetensors"))
    assert (
        Path(result.bundle, "model.safetensors").read_bytes()
        == Path(spec["output"], "best/model.safetensors").read_bytes()
    )
    then, last = (weights(spec["output"], step, "average") for step in (4 * result.best_epoch, 24))
    assert all(np.array_equal(best[name], then[name]) for name in best)
    assert not all(np.array_equal(best[name], last[name]) for name in best)


def test_early_stopping(judged: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    spec = judged | {"steps": 100, "early_stop": {"patience": 2}, "optimizer": {"kind": "sgd", "lr": 1e-30}}
    spec["model"]["neck"] = {"kind": "linear"}
    result = train(spec)
    position = json.loads(Path(spec["output"], "run.json").read_text())["position"]
    assert position["stopped_early"] and position["bad_validations"] == 2
    assert result.steps == 4 * (result.best_epoch + 2) < 100
    assert checkpoint.newest(Path(spec["output"], "checkpoints")).name == f"step-{result.steps:08d}"


def test_without_validation_the_last_model_is_best(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of(settings) | {"steps": 5}
    result = train(spec)
    assert (result.best, result.best_epoch) == (None, None)
    assert "validation  none: no early stopping, and the last model counts as the best" in capsys.readouterr().err
    last = weights(spec["output"], 5)
    best = load_file(Path(spec["output"], "best/model.safetensors"))
    assert all(np.array_equal(array, last[f"net.{name}"]) for name, array in best.items())


@pytest.mark.parametrize(
    "optimizer", [{"kind": "sgd", "lr": 1e30}, {"kind": "adamw", "lr": 1e38}], ids=["sgd", "adamw"]
)
def test_a_loss_that_is_not_finite_stops_before_the_step(optimizer: dict[str, Any], settings: Settings) -> None:
    spec = spec_of(settings) | {"optimizer": optimizer, "precision": "fp32"}
    spec["checkpoint"] = {"every_minutes": 1e-9, "keep": 100}
    spec["schedule"] = {"kind": "constant", "warmup_steps": 4, "warmup_ratio": 0}
    with pytest.raises(RunError) as caught:
        train(spec)
    assert caught.value.code == "run.not-finite"
    for part in ("learning rate", "fp32", "step"):
        assert part in caught.value.message
    assert "optimizer.lr" in caught.value.remedy
    kept = checkpoint.complete(Path(spec["output"], "checkpoints"))
    assert kept, "the first step has a rate of 0 and must have been saved"
    for path in kept:
        step = int(path.name.removeprefix("step-"))
        assert all(np.isfinite(array).all() for array in weights(spec["output"], step).values())
    with pytest.raises(RunError, match="finite"):
        train(spec)  # goes on from there, to the same end
    assert checkpoint.complete(Path(spec["output"], "checkpoints")) == kept


def test_a_rate_that_is_never_reached_is_said(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    train(spec_of(settings) | {"steps": 2, "schedule": {"kind": "constant", "warmup_steps": 2}})
    assert "the learning rate never reaches optimizer.lr=0.03" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    "loss",
    [
        {"kind": "triplet", "miner": {"kind": "semi-hard"}},
        {"kind": "multi-similarity", "ce": {}},
        {"kind": "supcon", "memory": {"size": 40, "warmup_steps": 1}},
        {"kind": "proxy-anchor"},
        {"kind": "quadruplet"},
        {"kind": "adaface"},
    ],
    ids=lambda loss: loss["kind"],
)
def test_cached_gradients_equal_the_whole_batch(loss: dict[str, Any], settings: Settings, tmp_path: Path) -> None:
    """For losses that compare rows a step in pieces is the step on the whole batch: the same pairs are seen.

    With dropout: an image's noise is the same whether it is embedded for the loss or for its gradient.
    """
    spec = spec_of(settings) | {"steps": 4, "precision": "fp32", "loss": loss}
    spec["extra_losses"] = [{"kind": "vicreg", "weight": 0.01}, {"kind": "am-softmax", "weight": 0.1}]
    spec["model"] |= {"backbone": "test_convnext.r160_in1k"}
    spec["data"] |= {"image_size": 32, "color": "rgb"}
    spec["sampler"] = {"kind": "per-class", "samples_per_class": 4}
    for pieces in (1, 3):
        train(spec | {"output": str(tmp_path / str(pieces)), "batch": {"size": 16, "accumulate": pieces}})
    one, three = weights(tmp_path / "1", 4), weights(tmp_path / "3", 4)
    for name, array in one.items():
        np.testing.assert_allclose(three[name], array, rtol=1e-3, atol=2e-5, err_msg=name)
    for one_row, three_row in zip(rows(tmp_path / "1"), rows(tmp_path / "3"), strict=True):
        assert three_row["loss"] == pytest.approx(one_row["loss"], rel=1e-4)


def test_running_statistics_count_a_piece_once(settings: Settings, tmp_path: Path) -> None:
    """A cached step embeds every image twice; batch norm's averages move as if once."""
    spec = spec_of(settings) | {"steps": 1, "precision": "fp32", "loss": {"kind": "supcon"}}
    spec["sampler"] = {"kind": "per-class", "samples_per_class": 4}
    train(spec | {"output": str(tmp_path / "pairs"), "batch": {"size": 16, "accumulate": 2}})
    train(
        spec
        | {"output": str(tmp_path / "classes"), "batch": {"size": 16, "accumulate": 2}, "loss": {"kind": "softmax"}}
    )
    pairs, classes = weights(tmp_path / "pairs", 1), weights(tmp_path / "classes", 1)
    running = [name for name in pairs if "running" in name or "num_batches" in name]
    assert running
    for name in running:
        np.testing.assert_allclose(pairs[name], classes[name], rtol=1e-5, atol=1e-7, err_msg=name)
