"""Leaving: exit code, output and exit functions stay; with native threads the interpreter is not taken down."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
if sys.argv[2]:
    __import__(sys.argv[2])
from kinsight.parallel.leave import leave
class Last:
    def __del__(self):
        sys.stderr.write("taken down")
last = Last()
atexit.register(print, "registered")
sys.stdout.write("said ")
leave(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 130])
@pytest.mark.parametrize("library", ["", "pyarrow"])
def test_code_and_output_survive(code: int, library: str) -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(code), library], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (code, "said registered\n")
    assert ("taken down" in run.stderr) != bool(library)
