"""Batches of images in the order they are asked for, read and decoded by worker processes that live across epochs."""

import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kinsight.data.cache import BytesCache, OnFilled, PixelCache
from kinsight.data.processes import without_main
from kinsight.data.reading import BatchReader, Piece, Request, any_remote
from kinsight.data.records import Records
from kinsight.errors import DataError, RunError
from kinsight.specs.data import Augment, ImageSpec, LightAugment, NoAugment, PhotoAugment

_FILL_BATCH = 64
_NAMED = 5  # broken images that an error names


@dataclass(frozen=True, slots=True)
class Batch:
    """images_BCHW: uint8, laid out channels last; label_B, index_B: int64 class and record numbers, on the CPU.

    Unlabelled images have label -1. Broken images are missing from all three, so a batch can even be empty.
    """

    images_BCHW: Tensor
    label_B: Tensor
    index_B: Tensor
    epoch: int

    def __len__(self) -> int:
        return len(self.index_B)

    def to(self, device: torch.device | str) -> "Batch":
        """Images and labels on `device`; record numbers stay."""
        images, labels = (part.to(device, non_blocking=True) for part in (self.images_BCHW, self.label_B))
        return replace(self, images_BCHW=images, label_B=labels)


class ImageLoader:
    """Reads batches of `records`.

    image, augment: how a file becomes a tensor. seed: of the augmentation, which depends on nothing but (seed, epoch,
    record number). workers: processes that read and decode; 0: none. cache: `memory` keeps decoded images, or files
    where crops are random. max_broken: share of `records` that may be unreadable; None: all of them, and images whose
    address does not answer count among them. labelled: whether every record has one label. processes: loaders like this
    one on this machine, which share its memory.

    broken: (address, reason) of the images found unreadable so far; broken_index: their record numbers; silent: of
    those whose address did not answer, where that is no error.
    Workers are forked for local data and started afresh for remote data, whose clients do not survive a fork. Close the
    loader, or use it in a `with`.
    """

    def __init__(
        self,
        records: Records,
        image: ImageSpec,
        *,
        augment: Augment | None = None,
        seed: int = 0,
        workers: int = 0,
        cache: Literal["none", "memory"] = "none",
        max_broken: float | None = 1.0,
        labelled: bool = True,
        processes: int = 1,
    ) -> None:
        self.records = records
        self.broken: list[tuple[str, str]] = []
        self.broken_index: list[int] = []
        self.silent: set[int] = set()
        self._known_broken: set[int] = set()
        self._workers, self._cache, self._max_broken, self._processes = workers, cache, max_broken, processes
        self._label_N = records.label_N if labelled else None
        self._reader = BatchReader(
            records, image, augment or NoAugment(), seed, remote=any_remote(records), lenient=max_broken is None
        )
        self._pixels: PixelCache | None = None
        self._pool: _Pool | None = None

    def batches(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """One batch for each (epoch, record numbers), in order; `requests` may be endless and is read a little ahead.

        Raises DataError when more than the allowed share of images is broken, StorageError when images cannot be
        reached, RunError when a worker dies.
        """
        self.fill()
        if self._pixels is not None:
            pixels = self._pixels
            pieces: Iterator[Piece] = (pixels.take(epoch, index_B) for epoch, index_B in requests)
        else:
            pieces = self._pieces(requests)
        for piece in pieces:
            yield self._batch(piece)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All records once, as epoch 0."""
        yield from self.batches((0, index_B) for index_B in _consecutive(len(self.records), batch_size))

    def fill(self, on_filled: OnFilled | None = None) -> None:
        """Read everything into the cache, if there is one and it is empty. The first batch does it otherwise."""
        if self._cache == "none" or self._pixels is not None or self._reader.encoded is not None:
            return
        if isinstance(self._reader.augment, PhotoAugment | LightAugment):
            threads = max(self._workers, 16 if self._reader.remote else 1)
            files = BytesCache(self.records, threads=threads, processes=self._processes, share=not _can_fork())
            self._note_broken(files.fill(on_filled))
            self._reader.close()
            self._reader = replace(self._reader, encoded=files, remote=False)
            return
        pixels = PixelCache(self.records, self._reader.image, processes=self._processes)
        for piece in self._pieces((0, index_B) for index_B in _consecutive(len(self.records), _FILL_BATCH)):
            self._raise_or_note(piece)
            pixels.put(piece)
            if on_filled is not None:
                on_filled(len(piece.index_B) + len(piece.broken))
        self.close()
        self._pixels = pixels

    def close(self) -> None:
        """End the workers and threads. They start again when batches are asked for."""
        self._reader.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _pieces(self, requests: Iterable[Request]) -> Iterator[Piece]:
        if self._workers == 0:
            return map(self._reader.__getitem__, requests)
        if self._pool is None:
            self._pool = _Pool(self._reader, self._workers)
        return self._pool.run(requests)

    def _batch(self, piece: Piece) -> Batch:
        self._raise_or_note(piece)
        label_B = np.full(len(piece.index_B), -1) if self._label_N is None else self._label_N[piece.index_B]
        images_BCHW = piece.images_BCHW
        if torch.cuda.is_available() and not images_BCHW.is_pinned():
            images_BCHW = images_BCHW.pin_memory()
        return Batch(images_BCHW, torch.from_numpy(label_B), torch.from_numpy(piece.index_B), piece.epoch)

    def _raise_or_note(self, piece: Piece) -> None:
        if piece.error is not None:
            raise piece.error
        self.silent.update(piece.silent)
        self._note_broken(piece.broken)

    def remember_broken(self, broken: Iterable[tuple[int, str, str]]) -> None:
        """What was found before, by record number, in the place of what was found here."""
        self.take_broken()
        self._note_known(broken)

    def take_broken(self) -> tuple[dict[int, str], set[int]]:
        """(record number -> reason, silent ones) of what was found since the last call, to be forgotten here."""
        found = {index: reason for index, (_, reason) in zip(self.broken_index, self.broken, strict=True)}
        silent, self.silent = self.silent, set()
        self.broken.clear()
        self.broken_index.clear()
        self._known_broken.clear()
        return found, silent

    def _note_known(self, broken: Iterable[tuple[int, str, str]]) -> None:
        for index, uri, reason in broken:
            if index not in self._known_broken:
                self._known_broken.add(index)
                self.broken.append((uri, reason))
                self.broken_index.append(index)

    def _note_broken(self, broken: list[tuple[int, str, str]]) -> None:
        self._note_known(broken)
        if self._max_broken is None:
            return
        count, total = len(self.broken), len(self.records)
        if count > self._max_broken * total or (count and count == total):
            first = "".join(f"\n  {uri}: {reason}" for uri, reason in self.broken[:_NAMED])
            more = f"\n  and {count - _NAMED} more" if count > _NAMED else ""
            raise DataError(
                "data.too-many-broken",
                f"{count} of {total} images cannot be used; {self._max_broken:.3g} of them may be{first}{more}",
                field="max_broken",
                remedy="mend or remove them, or raise max_broken",
            )


def iterate(
    records: Records,
    image: ImageSpec,
    *,
    batch_size: int,
    workers: int = 0,
    max_broken: float = 1.0,
    labelled: bool = True,
    on_broken: Callable[[int, str, str], None] | None = None,
) -> Iterator[Batch]:
    """All images once, in order, as evaluation sees them.

    on_broken: told (record number, address, reason) of each image that had to be left out. Raises like `ImageLoader`.
    """
    with ImageLoader(records, image, workers=workers, max_broken=max_broken, labelled=labelled) as loader:
        told = 0
        for batch in loader.in_order(batch_size):
            yield batch
            for index, (uri, reason) in zip(loader.broken_index[told:], loader.broken[told:], strict=True):
                if on_broken is not None:
                    on_broken(index, uri, reason)
            told = len(loader.broken)


class _Pool:
    """Worker processes around a reader."""

    def __init__(self, reader: BatchReader, workers: int) -> None:
        method = _start_method(remote=reader.remote)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if method != "fork":
            # A process that is not forked maps the records instead of receiving a copy of them.
            self._folder = tempfile.TemporaryDirectory(prefix="kinsight-records-")
            reader = replace(reader, records=reader.records.mapped(Path(self._folder.name, "records.arrow")))
        self._requests = _Requests()
        context = torch.multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["kinsight.data.reading"])
        with warnings.catch_warnings():
            # How many workers suit a machine is the user's setting; waiting for storage, many suit a small one.
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            self._loader: DataLoader[Piece] = DataLoader(
                reader,  # type: ignore[arg-type]
                sampler=self._requests,  # type: ignore[arg-type]
                batch_size=None,
                num_workers=workers,
                collate_fn=_unchanged,  # type: ignore[arg-type]
                pin_memory=torch.cuda.is_available(),
                multiprocessing_context=context,
                worker_init_fn=partial(_start_worker, dict(os.environ) if method == "forkserver" else None),
                persistent_workers=True,
                generator=torch.Generator(),  # else starting workers would draw from the training's own randomness
            )

    def run(self, requests: Iterable[Request]) -> Iterator[Piece]:
        self._requests.source = requests
        try:
            with _undisturbed(), without_main():
                pieces = iter(self._loader)
            yield from pieces
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise RunError(
                "run.loader-worker",
                f"a process that reads images died: {str(error).splitlines()[0]}",
                field="workers",
                remedy="memory ran out, most likely: lower workers or batch.size; in a container, raise its shared "
                "memory (docker run --shm-size)",
            ) from error

    def close(self) -> None:
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()  # at once; without it the workers would go with the garbage
            self._loader._iterator = None
        if self._folder is not None:
            self._folder.cleanup()


class _Requests:
    """What torch takes for a sampler: the requests of the moment."""

    def __init__(self) -> None:
        self.source: Iterable[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.source)


def _start_worker(environment: dict[str, str] | None, number: int) -> None:
    """Ctrl-C reaches all processes of a terminal; only the main one answers, and ends the others.

    environment: of the process that reads, where workers come from a server of forks: that may have been started before
    credentials were set.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _say_unless_alone
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)


def _say_unless_alone(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The thread that hands tensors over tells of a main process that is gone, which that one has said itself."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Starts processes without Ctrl-C in between, and without remarks that forking beside threads is risky: the
    children touch nothing that the parent's threads hold."""
    masked: Any = None
    if hasattr(signal, "pthread_sigmask"):
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            yield
    finally:
        if masked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _can_fork() -> bool:
    return sys.platform == "linux"


def _start_method(*, remote: bool) -> str:
    if not remote and _can_fork():
        return "fork"
    return "spawn" if sys.platform == "win32" else "forkserver"


def _consecutive(count: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))


def _unchanged(piece: Piece) -> Piece:
    return piece
