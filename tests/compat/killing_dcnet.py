"""Runs run_dcnet.py in children, each of which kills itself when it is about to put a certain file into place.

python killing_dcnet.py MOMENT,MOMENT,... WORD...: what child n says is in said-n; the last one is left alone. One
process imports everything and forks. Writes the children's exit codes.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from kinsight.cli import main
from kinsight.compat.ascend import run  # noqa: F401  imported once


def child(number: int, moment: str, words: list[str]) -> int:
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def kill(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and any(str(each).endswith(moment) for each in arguments[:2]):
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        sys.stdout = sys.stderr = Path(f"said-{number}").open("w")  # noqa: SIM115
        if moment:
            sys.addaudithook(kill)
        code = main(["compat", "run_dcnet.py", *words])
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    moments = [*sys.argv[1].split(","), ""]
    sys.stdout.write(" ".join(str(child(number, moment, sys.argv[2:])) for number, moment in enumerate(moments)))
