"""The examples run as they stand, and learn something; their specs are valid."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kinsight.models import check_model
from kinsight.specs.flags import load_yaml, resolve
from kinsight.specs.load import spec_class
from kinsight.specs.train import TrainSpec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *words: str) -> str:
    command = [sys.executable, "-W", "error::UserWarning:__main__", str(EXAMPLES / name), *words]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=words[0], env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=200
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_own_loop(tmp_path: Path):
    output = run("own_loop.py", str(tmp_path))
    found = [float(value) for value in re.findall(r"Recall@1 ([0-9.]+)", output)]
    assert len(found) == 7 and found[-1] > found[0] + 0.05, output


def test_train_and_embed(tmp_path: Path):
    output = run("train_and_embed.py", str(tmp_path))
    measured = re.search(r"Recall@1 on unseen symbols: ([0-9.]+)", output)
    assert measured and float(measured[1]) > 0.4, output
    nearest = re.findall(r"^  ([0-9.-]+)  (.*\.png)$", output, re.MULTILINE)
    assert len(nearest) == 4 and float(nearest[0][0]) > 0.999 and Path(nearest[0][1]).exists(), output
    assert (tmp_path / "test/retrieval.png").exists() and (tmp_path / "vectors/embeddings.json").exists()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_specs_are_valid(file: Path):
    tree = load_yaml(file.read_text(encoding="utf-8"), file.name)
    flags = ["--bundle", "runs/x"] if tree["job"] == "evaluate" else []
    spec = resolve(spec_class(tree["job"]), flags, tree)
    assert spec.output


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_every_example_says_how_it_is_run(file: Path):
    first = file.read_text(encoding="utf-8").split('"""')[1]
    assert f"python examples/{file.name}" in first


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("sop-*.yaml")), ids=lambda file: file.name)
def test_a_recipe_names_the_figure_it_aims_for_and_fits_its_network(file: Path):
    text = file.read_text(encoding="utf-8")
    assert re.match(r"# Aims for Recall@1 \d\d\.\d+ % on Stanford Online Products, as \w+", text)
    spec = resolve(TrainSpec, [], load_yaml(text, file.name))
    assert isinstance(spec, TrainSpec)
    check_model(spec.model, spec.data)


def test_recipes_are_what_the_documented_scripts_train():
    pairs = ("triplet", "quadruplet", "eml", "npairs")
    stems = {file.stem for file in EXAMPLES.glob("sop-*.yaml")}
    assert stems >= {f"sop-{loss}" for loss in ("softmax", "arcmargin", *pairs)}
    for loss in pairs:
        spec = resolve(TrainSpec, [], load_yaml((EXAMPLES / f"sop-{loss}.yaml").read_text(encoding="utf-8"), loss))
        assert isinstance(spec, TrainSpec) and spec.loss.kind == loss
        assert spec.model.init_from == "runs/sop-arcmargin" and spec.steps == 100_000
