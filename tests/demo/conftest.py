"""One small demo, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest


def kinsight(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kinsight", *words], capture_output=True, text=True, cwd=cwd)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Its folder, with the demo in out/, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, kinsight("demo", "--output", "out", "--classes", "60", "--epochs", "30", cwd=folder)
