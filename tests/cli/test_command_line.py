"""The command line as a user meets it: a real process, its output and its exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from kinsight.cli import overview
from kinsight.specs.reference import PAGE, page
from kinsight.specs.table import COMMANDS, JOBS

ROOT = Path(__file__).resolve().parents[2]


def kinsight(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kinsight", *words], capture_output=True, text=True, cwd=cwd)


def test_help_lists_every_job():
    result = kinsight("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in [*JOBS, *COMMANDS])
    assert result.stdout.strip() == overview()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from kinsight.cli import main; main(['--help']);"
        "print([m for m in ('torch', 'pydantic', 'numpy', 'timm', 'pyarrow', 'rich') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("job", JOBS)
def test_a_jobs_help_loads_its_spec_alone(job: str):
    code = (
        f"import sys; from kinsight.cli import main; main({job.split()!r} + ['--help']);"
        "print([m for m in ('torch', 'timm', 'pyarrow', 's3fs', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert f"kinsight {job}" in result.stdout


def test_help_shows_each_arms_own_defaults_and_bounds():
    text = kinsight("train", "--help", "loss").stdout
    arcface = next(line for line in text.splitlines() if line.strip().startswith("arcface"))
    assert "Angle" in arcface
    full = kinsight("train", "--help").stdout
    assert "margin_deg=28.6 (≥ 0, ≤ 90); scale=64" in full
    assert "margin=0.4 (≥ 0, ≤ 1); scale=30" in full


def test_dry_run_prints_a_spec_that_gives_itself_back(tmp_path: Path):
    words = ["--output", "o", "--data.train.path", "l.txt", "--loss.kind", "arcface"]
    first = kinsight("train", *words, "--dry-run")
    assert first.returncode == 0
    (tmp_path / "spec.yaml").write_text(first.stdout)
    again = kinsight("train", "--spec", str(tmp_path / "spec.yaml"), "--dry-run")
    assert again.stdout == first.stdout


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["trian"], 2, "did you mean train?"),
        (["bench"], 2, "needs one of: evaluate, "),
        (["train", "--help", "lossy"], 2, "no section 'lossy'"),
        (["train", "--output", "x"], 2, "data: is needed"),
        (["train", "--spec", "nowhere.yaml"], 1, "nowhere.yaml"),
        (["doctor", "--overwrite"], 2, "has no effect"),
    ],
)
def test_bad_usage_ends_with_a_line_and_a_code(words: list[str], code: int, text: str, tmp_path: Path):
    result = kinsight(*words, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_the_reference_page_is_up_to_date():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(), "run `just reference`"


@pytest.mark.parametrize(("nproc", "text"), [("65", "a batch of 64 images"), ("64", "cores")])
def test_more_processes_than_can_be_are_refused_before_any_starts(nproc: str, text: str, tmp_path: Path):
    result = kinsight("train", "--output", "o", "--data.train.path", "l.txt", "--nproc", nproc, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert f"nproc={nproc}" in result.stderr and text in result.stderr
