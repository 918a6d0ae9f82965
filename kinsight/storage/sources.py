"""What is sent and how it is cut: whole in one request up to PART_BYTES, in parallel parts above."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from kinsight.storage.local import local_errors

PART_BYTES = 16 * 2**20  # one request's worth: enough to hide latency, little enough to send again
PARALLEL = 8
Progress = Callable[[int], None]  # called with the number of bytes that have just been moved, from any thread

Item = TypeVar("Item")
Result = TypeVar("Result")


class Source(Protocol):
    """Bytes to send, readable at any place, from several threads."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, length: int) -> bytes: ...


@dataclass(frozen=True)
class BytesSource:
    data: bytes | memoryview

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        return bytes(self.data[start : start + length])


@dataclass(frozen=True)
class FileSource:
    """The first `size` bytes of a file; what is appended meanwhile belongs to the next transfer."""

    path: Path
    size: int

    @classmethod
    def of(cls, path: Path) -> "FileSource":
        with local_errors(path):
            return cls(path, path.stat().st_size)

    def read(self, start: int, length: int) -> bytes:
        with local_errors(self.path), self.path.open("rb") as file:
            return os.pread(file.fileno(), min(length, self.size - start), start)


def parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of each item, in order, a few at a time; the first failure ends it and is raised."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="kinsight-storage") as pool:
        tasks = [pool.submit(function, item) for item in items]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            for task in tasks:
                task.cancel()
            raise


def byte_range(start: int | None, length: int | None) -> str | None:
    """The Range header's value for [start, start + length), or None for everything."""
    if start is None and length is None:
        return None
    first = start or 0
    return f"bytes={first}-" if length is None else f"bytes={first}-{first + length - 1}"
