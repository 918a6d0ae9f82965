"""Trainings that rest at each step: a signal sent on some event then always comes before their end.

Run as a program it is Python at that pace, which a launching process starts in Python's place.
"""

import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

_REST_S = 0.15
_LAUNCHED = '#!/bin/sh\nexec "{python}" "{this}" "$@"\n'


def rest_at_each_step() -> None:
    """For the trainings of this process from now on."""
    from kinsight.training import loop

    advance = loop._advance

    def paced(*words: Any) -> None:
        time.sleep(_REST_S)
        advance(*words)

    loop._advance = paced


def rest_in_launched(folder: Path) -> None:
    """For the processes that this one launches from now on."""
    script = folder / "paced-python"
    script.write_text(_LAUNCHED.format(python=sys.executable, this=__file__))
    script.chmod(0o755)
    sys.executable = os.fspath(script)


if __name__ == "__main__":
    flag, module, *words = sys.argv[1:]
    assert flag == "-m", sys.argv
    sys.argv = [module, *words]
    sys.path[0] = ""
    rest_at_each_step()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
