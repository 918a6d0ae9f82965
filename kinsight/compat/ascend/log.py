"""Lines of run_dcnet.py: on standard output, and in `run_dcnet.log` of its folder."""

import time
from pathlib import Path

from kinsight import storage

NAME = "run_dcnet.log"


class Log:
    """Call it with a line. interval: steps between lines of a training."""

    def __init__(self, folder: Path, interval: int) -> None:
        self._file, self.interval = folder / NAME, interval
        storage.make_directory(folder)

    def __call__(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self.plain("\n".join(f"[{stamp}] {line}" for line in text.splitlines()))

    def plain(self, text: str) -> None:
        """Lines without a time."""
        print(text, flush=True)
        with storage.local_errors(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
