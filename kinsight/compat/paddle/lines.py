"""The lines that the training scripts print, made from the rows that a run logs."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from kinsight.compat.paddle.common import stamp

_EVERY_S = 0.2


def line(row: dict[str, Any], *, loss: str, batch_size: int, test_images: int) -> str:
    """One row of metrics.jsonl as the scripts print it."""
    step, when = row["step"], stamp(row["time"])
    if row["kind"] == "validation":
        return f"[{when}] test_img_num {test_images}, trainbatch {step}, test_recall {row['recall@1'] or 0:.5f}"
    speed, accuracy = row.get("images_per_s"), row.get(f"{loss}.accuracy")
    parts = [f"trainbatch {step}", f"lr {row['lr']:.6f}", f"loss {row['loss']:.6f}"]
    parts += [] if accuracy is None else [f"acc1 {accuracy:.4f}"]
    parts += [f"time {batch_size / speed:2.2f} sec"] if speed else []
    return f"[{when}] {', '.join(parts)}"


@contextmanager
def printed(file: Path, since: float, out: TextIO, **known: Any) -> Iterator[None]:
    """While the block runs, print the rows that `file` gets, with those alone that are younger than `since`.

    A thread follows the file, since the run may be in processes of its own.
    """
    done, follower = threading.Event(), _Follower(file, since)

    def follow() -> None:
        last = False
        while not last:
            last = done.wait(_EVERY_S)
            for row in follower.new():
                # a terminal's own stream is not `out` while there is a bar, which the lines go above
                print(line(row, **known), file=None if out.isatty() else out, flush=True)

    thread = threading.Thread(target=follow, name="kinsight-display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Follower:
    """New rows of a file that is appended to, or replaced."""

    def __init__(self, file: Path, since: float) -> None:
        self._file, self._since = file, since
        self._inode, self._position = 0, 0

    def new(self) -> list[dict[str, Any]]:
        try:
            with self._file.open("rb") as stream:
                inode = os.fstat(stream.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._position = inode, 0
                stream.seek(self._position)
                text = stream.read()
        except OSError:  # not there yet
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        rows = [json.loads(row) for row in whole.splitlines()]
        return [row for row in rows if row["time"] >= self._since]
