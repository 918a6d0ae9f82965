"""One of several training processes: `python -m kinsight.training.worker SPEC.json [--overwrite]`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from kinsight.errors import KinsightError
from kinsight.parallel.launch import end_with_launcher, report_crash, report_failure
from kinsight.parallel.leave import leave
from kinsight.training.run import train


def main(words: list[str]) -> int:
    """Train as the spec file says; a failure is reported to the launching process, which speaks to the user."""
    end_with_launcher()
    _hush_children()
    spec = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    try:
        train(spec, overwrite="--overwrite" in words)
    except KinsightError as error:
        report_failure(error)
        return 1
    except Exception as error:
        report_crash(error)
        return 1
    return 0


def _hush_children() -> None:
    """What the processes that read images have to say when this one is gone helps nobody."""
    mine, hook = os.getpid(), sys.excepthook

    def own_only(*exception: Any) -> None:
        if os.getpid() == mine:
            hook(*exception)

    sys.excepthook = own_only


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
