"""The end of a process that has run native threads."""

import atexit
import logging
import os
import sys
import threading
from typing import NoReturn

_NATIVE = ("torch", "pyarrow", "faiss")


def leave(code: int) -> NoReturn:
    """End this process with an exit code; threads are waited for, what was registered to run at the end runs.

    Where libraries with threads of their own are loaded the interpreter is not taken down piece by piece: threads that
    outlive it have been seen to abort a process whose work was done, or whose error was told.
    """
    if not any(name in sys.modules for name in _NATIVE):
        sys.exit(code)
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads any more
            code = code or 1
    os._exit(code)
