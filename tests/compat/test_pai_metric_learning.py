"""`kinsight compat pai-metric-learning PARAMS.yaml`: the component's parameters as its page prints them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kinsight.cli import main
from kinsight.compat.pai.names import FIELDS

REFERENCE = Path(__file__).resolve().parents[2] / "../shared/references/pai-image-metric-learning.txt"
PLAIN = {
    "OSS directory for training output": "out",
    "Training annotation file path": "train_labeled.txt",
    "Number of training classes": 6,
    "Training batch_size": 12,
    "GPU model": "8vCPU+32GB Mem",
}


def spec(folder: Path, capsys: pytest.CaptureFixture[str], given: dict[str, object] | None = None) -> tuple[dict, str]:
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump({**PLAIN, **(given or {})}))
    capsys.readouterr()
    code = main(["compat", "pai-metric-learning", str(file), "--dry-run"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return yaml.safe_load(out), " ".join(err.split())


def wrong(folder: Path, capsys: pytest.CaptureFixture[str], given: dict[str, object]) -> str:
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump({**PLAIN, **given}))
    capsys.readouterr()
    assert main(["compat", "pai-metric-learning", str(file), "--dry-run"]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_defaults_are_the_page_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, said = spec(tmp_path, capsys)
    assert "warning" not in said
    assert (found["task"], found["epochs"], found["checkpoint"]["every_epochs"]) == ("metric", 200, 10)
    assert found["data"]["train"] == {**found["data"]["train"], "format": "image-list", "path": "train_labeled.txt"}
    assert (found["data"]["image_size"], found["data"]["workers"], found["data"]["num_classes"]) == (224, 4, 6)
    assert (found["model"]["backbone"], found["model"]["embedding_dim"]) == ("resnet50", 1536)
    assert (found["model"]["neck"]["kind"], found["model"]["pretrained"]) == ("cgd", "default")
    loss = found["loss"]
    assert (loss["kind"], loss["margin"], loss["scale"], loss["weight"]) == ("am-softmax", 0.4, 30, 1)
    assert loss["ce"] == {"weight": 1.0, "temperature": 0.05, "smoothing": 0.1}
    assert (found["optimizer"]["kind"], found["optimizer"]["lr"], found["batch"]["size"]) == ("sgd", 0.03, 12)
    assert (found["precision"], found["device"], found["nproc"]) == ("fp32", "cpu", 1)


def test_values_as_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {
        "metric learning model type": "Data-parallel metric learning",
        "Data source format": "ClsSourceItag",
        "Validation annotation file path": "val.manifest",
        "File of class name list": "[a,b,c,d,e,f]",
        "Metric learning backbone": "swin_transformer_tiny",
        "Backbone output feature dimension": "768",
        "Loss function": "LargeMarginSoftmaxLoss (recommended parameters: margin 4, scale 1)",
        "Loss function margin parameter": 4.0,
        "Loss function scale parameter": "1",
        "Loss function weight": 0.5,
        "Optimizer": "AdamW",
        "Initial learning rate": "1e-3",
        "Computing mode": "Standalone DLC",
    }
    found, _ = spec(tmp_path, capsys, given)
    assert (found["data"]["train"]["format"], found["data"]["validation"]["path"]) == ("itag", "val.manifest")
    assert (found["model"]["backbone"], found["model"]["backbone_dim"]) == ("swin_transformer_tiny", 768)
    assert (found["loss"]["kind"], found["loss"]["margin"], found["loss"]["weight"]) == ("large-margin-softmax", 4, 0.5)
    assert (found["optimizer"]["kind"], found["optimizer"]["lr"]) == ("adamw", 0.001)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AMSoftmax", "am-softmax"),
        ("ArcFaceLoss (recommended parameters: margin 28.6, scale 64)", "arcface"),
        ("CosFaceLoss", "cosface"),
        ("SphereFaceLoss", "sphereface"),
    ],
)
def test_losses_take_their_recommended_parameters(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = spec(tmp_path, capsys, {"Loss function": name})[0]["loss"]
    recommended = {"am-softmax": (0.4, 30), "arcface": (28.6, 64), "cosface": (0.35, 64), "sphereface": (4, 1)}
    margin = loss["margin_deg"] if kind == "arcface" else loss["margin"]
    assert (loss["kind"], margin, loss["scale"]) == (kind, *recommended[kind])


def test_model_parallel(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    given = {
        "Metric learning model type": "Model-parallel metric learning",
        "Loss function": "Model-parallel Softmax, whose classification limit can be extended with the number of GPUs",
        "Loss function margin parameter": 0.4,
        "Computing mode": "Distributed DLC",
        "Workers": 4,
        "GPU model": "8vCPU+60GB Mem+1xp100-ecs.gn5-c8g1.2xlarge",
    }
    found, said = spec(tmp_path, capsys, given)
    assert (found["loss"]["kind"], found["loss"]["ce"]) == ("softmax", None)
    assert "Loss function margin parameter: no effect on Model-parallel Softmax" in said
    assert (found["nproc"], found["batch"]) == (2, {"size": 48, "accumulate": 2})
    assert said.count("asks for a GPU") == 1
    assert "4 ranks were asked for, 2 run" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Los function": "AMSoftmax"}, "no parameter 'Los function'; did you mean 'Loss function'?"),
        ({"Loss function": "ArcFace"}, "did you mean ArcFaceLoss?"),
        ({"Loss function": "Model-parallel AMSoftmax"}, "is for Model-parallel metric learning"),
        ({"Number of training classes": None}, "Number of training classes: must be given"),
        ({"Number of training classes": "six"}, "Number of training classes: 'six': expected a number"),
        ({"Optimizer": "Adam"}, "Optimizer: 'Adam': expected SGD or AdamW; did you mean AdamW?"),
        ({"Training annotation file path": None}, "Training annotation file path: must be given"),
        ({"Image resize size": 2}, "Image resize size"),
    ],
)
def test_wrong_parameters(
    given: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in wrong(tmp_path, capsys, given)


def test_the_names_are_the_page_s() -> None:
    code = (
        "import sys; from kinsight.cli import main; main(['compat', 'pai-metric-learning', '--help']);"
        "print([m for m in ('torch', 'timm', 'pyarrow', 'pydantic', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(each.name in done.stdout for each in FIELDS)
    assert done.stdout.splitlines()[-1] == "[]"  # so that it is quick
    if not REFERENCE.exists():
        pytest.skip("the page is not here")
    page = " ".join(REFERENCE.read_text().split())
    assert [each.name for each in FIELDS if each.name not in page] == []


def test_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve pictures of two classes, through the job itself."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    lines = []
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png {number % 2}\n")
    (tmp_path / "train_labeled.txt").write_text("".join(lines))
    params = {
        "OSS directory for training output": str(tmp_path / "run"),
        "Training annotation file path": str(tmp_path / "train_labeled.txt"),
        "Number of training classes": 2,
        "Training batch_size": 6,
        "Total training epochs": 1,
        "Image resize size": 32,
        "Metric learning backbone": "conv4",
        "Backbone output feature dimension": 64,
        "Feature output dimension": 16,
        "Training data read threads": 0,
        "GPU model": "8vCPU+32GB Mem",
    }
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(params))
    assert main(["compat", "pai-metric-learning", str(file)]) == 0, capsys.readouterr().err
    assert (tmp_path / "run/bundle/bundle.json").exists()
