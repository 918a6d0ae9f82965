"""What a run leaves to look at: metrics.jsonl, TensorBoard events, a picture."""

import json
import time
from pathlib import Path
from typing import Any

from kinsight import storage
from kinsight.progress import Events, clean
from kinsight.training.state import Position


class Record:
    """Writes the numbers of a run; on ranks other than the main one it does nothing."""

    def __init__(self, path: Path | None, *, from_step: int) -> None:
        """path: the run folder, None to write nothing. from_step: rows after it are from before a resume; dropped.

        Raises StorageError; so do the other methods.
        """
        self._path = path
        self.rows: list[dict[str, Any]] = []
        self.events = Events(None)
        self._file = self._board = None
        if path is None:
            return
        self.rows = [row for row in read_rows(path) if row["step"] <= from_step]
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        storage.write_bytes(str(path / "metrics.jsonl"), text.encode())
        from torch.utils.tensorboard.writer import SummaryWriter

        with storage.local_errors(path):
            self._file = (path / "metrics.jsonl").open("a", encoding="utf-8")
            self.events = Events(path / "events.jsonl")
            # TensorBoard hides what earlier files hold from this step on.
            self._board = SummaryWriter(str(path / "tensorboard"), purge_step=from_step + 1)

    def log(self, kind: str, position: Position, values: dict[str, float]) -> None:
        """Add a row of what was found at `position`. kind: "train" or "validation"."""
        if self._path is None or self._file is None or self._board is None:
            return
        step, now = position.step, round(time.time(), 3)
        seconds = round(position.seconds, 3)
        row = clean({"kind": kind, "step": step, "epoch": position.epoch, "time": now, "seconds": seconds, **values})
        self.rows.append(row)
        with storage.local_errors(self._path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Let the files show all that was logged."""
        if self._path is not None and self._board is not None:
            with storage.local_errors(self._path):
                self._board.flush()

    def close(self) -> None:
        """Flush and close."""
        if self._path is None or self._file is None or self._board is None:
            return
        with storage.local_errors(self._path):
            self.events.close()
            self._file.close()
            self._board.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; an unfinished last line is left out."""
    file = path / "metrics.jsonl"
    rows: list[dict[str, Any]] = []
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
