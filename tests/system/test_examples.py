"""The examples run as they stand, and learn something; their specs are valid."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kinsight.specs.flags import load_yaml, resolve
from kinsight.specs.load import spec_class

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
