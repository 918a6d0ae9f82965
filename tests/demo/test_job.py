"""The demo as a user runs it, small: its steps, its files, and the commands it shows."""

import json
import shlex
import subprocess
import sys
from pathlib import Path


def kinsight(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kinsight", *words], capture_output=True, text=True, cwd=cwd)


def test_it_trains_and_measures_on_unseen_classes(demo: tuple[Path, subprocess.CompletedProcess[str]]):
    folder, result = demo
    assert result.returncode == 0, result.stderr
    before, after = (
        json.loads((folder / "out" / name / "metrics.json").read_text()) for name in ("untrained", "evaluation")
    )
    assert after["classes"] == before["classes"] == 24
    assert after["recall@1"] > before["recall@1"]
    assert "never seen" in result.stderr
    for file in ("run/bundle/bundle.json", "run/training.png", "evaluation/retrieval.png", "train.yaml"):
        assert (folder / "out" / file).stat().st_size > 0
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr


def test_the_commands_it_shows_can_be_typed(demo: tuple[Path, subprocess.CompletedProcess[str]]):
    folder, result = demo
    shown = [shlex.split(line[2:]) for line in result.stderr.splitlines() if line.startswith("$ ")]
    jobs = [words[1] for words in shown if words[0] == "kinsight"]
    assert jobs == ["evaluate", "train", "evaluate", "embed", "index", "serve"]
    drawn, untrained, training, evaluation, embedding, indexing, serving = shown
    assert drawn[0] == "python" and untrained[2:4] == ["--model.backbone", "conv4"]
    again = subprocess.run([sys.executable, *drawn[1:]], capture_output=True, text=True, cwd=folder)
    assert again.returncode == 0, again.stderr
    finished = kinsight(*training[1:], cwd=folder)
    assert finished.returncode == 2 and "finished run" in finished.stderr
    measured = json.loads((folder / "out/evaluation/metrics.json").read_text())
    assert kinsight(*evaluation[1:], cwd=folder).returncode == 0
    assert json.loads((folder / "out/evaluation/metrics.json").read_text()) == measured
    embedded = kinsight(*embedding[1:], cwd=folder)
    assert embedded.returncode == 2 and "finished embeddings" in embedded.stderr
    assert kinsight(*indexing[1:], cwd=folder).returncode == 0
    assert kinsight(*serving[1:], "--dry-run", cwd=folder).returncode == 0


def test_every_symbol_is_found_with_its_character(demo: tuple[Path, subprocess.CompletedProcess[str]]):
    folder, _ = demo
    found = kinsight("search", "out/index", "--ids", "0", "--k", "3", "--format", "jsonl", cwd=folder)
    assert found.returncode == 0, found.stderr
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rows) == 3
    assert all(row["label"] == f"U+{ord(row['character']):04X}" and row["name"] for row in rows)


def test_a_second_demo_reuses_what_is_there(demo: tuple[Path, subprocess.CompletedProcess[str]]):
    folder, _ = demo
    result = kinsight("demo", "--output", "out", "--classes", "60", "--epochs", "30", cwd=folder)
    assert result.returncode == 0 and "trained already" in result.stderr


def test_a_demo_of_other_settings_says_so(demo: tuple[Path, subprocess.CompletedProcess[str]]):
    folder, _ = demo
    result = kinsight("demo", "--output", "out", "--classes", "60", "--epochs", "31", cwd=folder)
    assert result.returncode == 2 and "epochs was 30, now 31" in result.stderr, result.stderr


def test_a_demo_of_other_symbols_says_so(demo: tuple[Path, subprocess.CompletedProcess[str]]):
    folder, _ = demo
    result = kinsight("demo", "--output", "out", "--classes", "61", cwd=folder)
    assert result.returncode == 2 and "a demo of 60 classes" in result.stderr, result.stderr
