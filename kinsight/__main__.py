"""The command line: `kinsight`, or `python -m kinsight`."""

from kinsight.cli import main
from kinsight.parallel.leave import leave


def entry() -> None:
    """Run the process's own words, and end it with their exit code."""
    leave(main())


if __name__ == "__main__":
    entry()
