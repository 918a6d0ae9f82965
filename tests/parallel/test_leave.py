"""Leaving a group: exit code, output and exit functions stay, only the interpreter's taking down is left out."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
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
@pytest.mark.parametrize("grouped", [False, True])
def test_code_and_output_survive(code: int, grouped: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment |= {"RANK": "0", "WORLD_SIZE": "2"} if grouped else {}
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(code)], capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stdout) == (code, "said registered\n")
    assert ("taken down" in run.stderr) != grouped
