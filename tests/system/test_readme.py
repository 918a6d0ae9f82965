"""The commands of README.md, run as written, as real processes, on a tiny list and with small settings appended."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {
    "train": "--model.backbone conv4 --model.pretrained null --model.embedding-dim 16 --data.image-size 16 "
    "--data.workers 0 --batch.size 8 --epochs 2",
    "evaluate": "--workers 0 --bootstrap 20",
    "embed": "--workers 0",
}


def commands() -> list[list[str]]:
    """Words of the `kinsight` commands in README's code blocks and quoted lines, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`(kinsight [^`]+)`", README)
    return [line.split("kinsight ", 1)[1].split() for line in lines if "kinsight " in line]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.txt, val.txt, test.txt and catalogue.txt with pictures of three classes, a.jpg and b.jpg."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (3, 3))
    for name in ("train", "val", "test", "catalogue"):
        lines = []
        for number in range(12):
            label = number % 3
            pixels = (colours[label] + rng.integers(-40, 41, (40, 30, 3))).clip(0, 255).astype(np.uint8)
            image = f"{name}/{number} {label}.jpg"
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / image)
            lines.append(image if name == "catalogue" else f"{image} {label}")
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pixels).save(folder / name)
    return folder


def run(words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=place, env=environment)
    assert result.returncode == 0, result.stderr
    return result


def test_train_evaluate_embed(place: Path):
    """In README's order, each on what the one before it left."""
    wanted = [
        words
        for words in commands()
        if (words[0] in SMALL and "--bundle" in words) or (words[0] == "train" and len(words) > 4)
    ]
    assert [words[0] for words in wanted] == ["train", "evaluate", "embed"]
    for words in wanted:
        run(["-m", "kinsight", *words, *SMALL[words[0]].split()], place)
    metrics = json.loads((place / "runs/shoes-test/metrics.json").read_text())
    assert metrics["gallery"] == 12 and metrics["recall@1"] > 0.5
    assert (place / "runs/shoes-test/retrieval.png").exists() and (place / "runs/shoes-test/per_class.csv").exists()
    assert json.loads((place / "catalogue-vectors/embeddings.json").read_text())["count"] == 12


def test_a_backbone_as_it_is(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With its weights from a store of one's own, as on a machine without a network."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("resnet50").state_dict(), tmp_path / "resnet50.safetensors")
    monkeypatch.setenv("KINSIGHT_WEIGHTS", str(tmp_path))
    words = next(words for words in commands() if {"evaluate", "--model.backbone"} <= set(words))
    result = run(["-m", "kinsight", *words, *SMALL["evaluate"].split(), "--image.image-size", "64"], place)
    assert json.loads((place / "out/metrics.json").read_text())["gallery"] == 12
    assert "resnet50" in result.stderr and "apache-2.0" in result.stderr


def test_the_library_example(place: Path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    small = {
        "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 16},
        "batch": {"size": 8},
        "epochs": 1,
    }
    data = '"data": {"train": {"path": "train.txt"}'
    assert data in code[1] and '"epochs": 20' in code[1] and '"output": "runs/shoes"' in code[1]
    text = code[1].replace(data, data + ', "image_size": 16, "workers": 0').replace('"runs/shoes"', '"runs/library"')
    text = text.replace('"epochs": 20', repr(small)[1:-1])
    run(["-c", text + "\nassert vectors.shape == (2, 16), vectors.shape\nassert loss.num_classes == 100"], place)


def test_every_command_of_readme_is_a_job_with_such_settings(place: Path):
    """The others too, as far as `--dry-run` goes."""
    from kinsight.cli import main

    jobs = [words for words in commands() if not set(words) & {"--help", "--dry-run", "..."}]
    assert {words[0] for words in jobs} >= {"demo", "train", "evaluate", "embed", "doctor"}
    for words in jobs:
        assert main([*words, "--dry-run"]) == 0, words


def test_the_links_of_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target and not target.startswith("docs/images/"):
            assert (ROOT / target).exists(), target
