"""`kinsight doctor` tells what there is, and fails when something does not work."""

import subprocess
import sys
from pathlib import Path


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kinsight", "doctor", *words], capture_output=True, text=True)


def test_it_measures_this_machine(tmp_path: Path):
    result = doctor("--address", str(tmp_path / "new"))
    assert result.returncode == 0, result.stderr
    for word in ("torch", "GFLOP/s", "cores", "GiB", "KINSIGHT_CACHE", "writable"):
        assert word in result.stdout


def test_an_address_that_does_not_work_is_a_fault(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    result = doctor("--address", str(tmp_path / "file" / "below"))
    assert result.returncode == 1
    assert "1 of" in result.stderr and "Traceback" not in result.stderr
