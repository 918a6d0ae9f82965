"""Images kept in memory: decoded where each epoch shows the same pixels, as files where crops differ."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kinsight.data.decode import BrokenImage
from kinsight.data.fetching import fetches
from kinsight.data.reading import Piece, num_channels, shown
from kinsight.data.records import Records
from kinsight.errors import SpecError
from kinsight.specs.data import ImageSpec

OnFilled = Callable[[int], None]
"""Called with the number of images that have just been kept."""

MEMORY_SHARE = 0.8  # of the free memory; the rest is for the training itself
_SAMPLE = 256
_SLAB_BYTES = 64 * 2**20
_READ_AHEAD = 256


class PixelCache:
    """All images decoded. images_NCHW: uint8; rows of images that could not be read are left out of batches."""

    def __init__(self, records: Records, image: ImageSpec, *, processes: int = 1) -> None:
        shape = (len(records), image.image_size, image.image_size, num_channels(image))
        check_memory(int(np.prod(shape)), processes, f"{shape[0]:,} images of {shape[1]} x {shape[2]} x {shape[3]}")
        self.images_NCHW: Tensor = torch.empty(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
        self._readable_N = torch.zeros(len(records), dtype=torch.bool)

    def put(self, piece: Piece) -> None:
        """Keep what was read."""
        index_B = torch.from_numpy(piece.index_B)
        self.images_NCHW[index_B] = piece.images_BCHW
        self._readable_N[index_B] = True

    def take(self, epoch: int, index_B: npt.NDArray[np.int64]) -> Piece:
        """Answer a request from memory."""
        wanted_B = torch.from_numpy(np.asarray(index_B, np.int64))
        wanted_B = wanted_B[self._readable_N[wanted_B]]
        return Piece(epoch, self.images_NCHW[wanted_B], wanted_B.numpy(), [])


class BytesCache:
    """All image files, packed into a few large buffers that worker processes share."""

    def __init__(self, records: Records, *, threads: int, processes: int = 1, share: bool = False) -> None:
        """share: put the buffers where processes that are not forked can map them, too."""
        self._slabs: list[Tensor] = []
        self._slab_N = np.zeros(len(records), np.int32)
        self._start_N = np.zeros(len(records), np.int64)
        self._length_N = np.full(len(records), -1, np.int64)
        self._records, self._threads, self._share = records, max(1, threads), share
        check_memory(_estimate_bytes(records, self._threads), processes, f"about {len(records):,} image files")

    def fill(self, on_filled: OnFilled | None = None) -> list[tuple[int, str, str]]:
        """Read every image; returns (record number, address, reason) of those that cannot be read."""
        broken: list[tuple[int, str, str]] = []
        used = _SLAB_BYTES
        for index, data in enumerate(_read_all(self._records, range(len(self._records)), self._threads)):
            if isinstance(data, BrokenImage):
                broken.append((index, shown(self._records.uri(index)), data.reason))
                data = b""
            else:
                self._length_N[index] = len(data)
            if used + len(data) > _SLAB_BYTES:
                slab = torch.empty(max(_SLAB_BYTES, len(data)), dtype=torch.uint8)
                self._slabs.append(slab.share_memory_() if self._share else slab)
                used = 0
            self._slabs[-1].numpy()[used : used + len(data)] = np.frombuffer(data, np.uint8)
            self._slab_N[index], self._start_N[index] = len(self._slabs) - 1, used
            used += len(data)
            if on_filled is not None:
                on_filled(1)
        return broken

    def get(self, index: int) -> bytes | None:
        """One file's bytes; None if it could not be read."""
        start, length = int(self._start_N[index]), int(self._length_N[index])
        return None if length < 0 else self._slabs[self._slab_N[index]].numpy()[start : start + length].tobytes()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_records"}


def _read_all(records: Records, indices: range, threads: int) -> Iterator[bytes | BrokenImage]:
    """The files at `indices`, in order, a bounded number of them ahead of the reader."""
    half = _READ_AHEAD // 2
    with ThreadPoolExecutor(threads, thread_name_prefix="kinsight-fill") as pool:
        pending: list[Callable[[], bytes]] = []
        for start in range(0, len(indices), half):
            begun = fetches([records.uri(index) for index in indices[start : start + half]], pool)
            yield from map(_answer, pending)
            pending = begun
        yield from map(_answer, pending)


def _answer(fetch: Callable[[], bytes]) -> bytes | BrokenImage:
    try:
        return fetch()
    except BrokenImage as error:
        return error


def _estimate_bytes(records: Records, threads: int) -> int:
    """Size of all files, from an evenly spread sample of them."""
    step = max(1, len(records) // _SAMPLE)
    sizes = [len(data) for data in _read_all(records, range(0, len(records), step), threads) if isinstance(data, bytes)]
    return int(np.mean(sizes) * len(records)) if sizes else 0


def check_memory(needed: int, processes: int, what: str) -> None:
    """Raises SpecError when `processes` caches of `needed` bytes are more than the machine can spare."""
    free = available_memory()
    if free is not None and needed * processes > free * MEMORY_SHARE:
        times = f", {processes} times on this machine" if processes > 1 else ""
        raise SpecError(
            "spec.cache-memory",
            f"cache=memory needs {_gib(needed)} for {what}{times}; {_gib(free)} are free",
            field="data.cache",
            remedy="set data.cache=none, or a smaller data.image_size",
        )


def available_memory() -> int | None:
    """Bytes that this process may still take: free on the machine, and within its control group. None: unknown."""
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
        if "SC_AVPHYS_PAGES" in names:
            found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        reclaimable = next(
            int(line.split()[1])
            for line in (group / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
        if limit != "max":
            found.append(int(limit) - used + reclaimable)
    except (OSError, ValueError, StopIteration):
        pass
    return min(found, default=None)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
