"""The command line: `kinsight`, or `python -m kinsight`; and `pai`, which is `kinsight pai`."""

import sys

from kinsight.cli import main
from kinsight.parallel.leave import leave


def entry() -> None:
    """Run the process's own words, and end it with their exit code."""
    leave(main())


def pai() -> None:
    """The same for `kinsight pai` under its documented name."""
    leave(main(["pai", *sys.argv[1:]]))


if __name__ == "__main__":
    entry()
