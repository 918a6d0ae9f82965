"""The end of a process that belongs to a group."""

import atexit
import logging
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process with an exit code; what was registered to run at the end runs, streams are written out.

    In a process group the interpreter is not taken down piece by piece: threads of the communication libraries that
    outlive it have been seen to abort a process whose work was done and saved.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        sys.exit(code)
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads any more
            code = code or 1
    os._exit(code)
