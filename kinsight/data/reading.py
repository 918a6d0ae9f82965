"""Reading one batch of images: what a loader worker does, and the trainer itself when there are no workers."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from kinsight.data.arrow import pc
from kinsight.data.crops import crop_choosers
from kinsight.data.decode import BrokenImage, decode
from kinsight.data.fetching import fetches
from kinsight.data.one_image import read_image as read_image
from kinsight.data.one_image import shown as shown
from kinsight.data.records import Records
from kinsight.data.silent_servers import SilentServers
from kinsight.errors import KinsightError, StorageError
from kinsight.specs.data import Augment, ImageSpec

Request = tuple[int, npt.NDArray[np.int64]]
"""(epoch, record numbers) of one batch."""

REMOTE_READS = 16  # requests in flight per process: latency, not the line, bounds small objects


class Piece(NamedTuple):
    """One request answered.

    images_BCHW: uint8, of the images that could be read. index_B: their record numbers. broken: (record number,
    address, reason) of the others. error: why the request could not be answered at all; it ends the run. silent: those
    of the broken ones whose address did not answer.
    """

    epoch: int
    images_BCHW: Tensor
    index_B: npt.NDArray[np.int64]
    broken: list[tuple[int, str, str]]
    error: KinsightError | None = None
    silent: tuple[int, ...] = ()


class EncodedImages(Protocol):
    """Encoded images kept in memory."""

    def get(self, index: int) -> bytes | None:
        """The file's bytes; None if it could not be read."""
        ...


@dataclass
class BatchReader:
    """Turns requests into pieces; a dataset in torch's sense, whose items are batches.

    encoded: where to take the images' bytes from instead of their addresses. remote: whether reading waits for a
    network. lenient: an address that does not answer breaks its image alone, and servers that are silent for long are
    not waited for again.
    """

    records: Records
    image: ImageSpec
    augment: Augment
    seed: int
    remote: bool = False
    encoded: EncodedImages | None = None
    lenient: bool = False
    _pool: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)
    _servers: SilentServers | None = field(default=None, init=False, repr=False)

    def __getitem__(self, request: Request) -> Piece:
        """Reads, decodes and crops one batch. Never raises a KinsightError: it travels in the piece."""
        epoch, index_B = request
        try:
            return self._read(epoch, np.asarray(index_B, np.int64))
        except KinsightError as error:
            return Piece(epoch, torch.empty(0, dtype=torch.uint8), index_B[:0], [], error)

    def close(self) -> None:
        """End the threads that fetch. They start again when a batch is asked for."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _read(self, epoch: int, index_B: npt.NDArray[np.int64]) -> Piece:
        size, channels = self.image.image_size, num_channels(self.image)
        images_BHWC = torch.empty((len(index_B), size, size, channels), dtype=torch.uint8)
        if get_worker_info() is not None:
            images_BHWC.share_memory_()  # written in place by this process, mapped by the other
        choosers = crop_choosers(self.image, self.augment, seed=self.seed, epoch=epoch, index_B=index_B)
        kept: list[int] = []
        broken: list[tuple[int, str, str]] = []
        uris = [self.records.uri(index) for index in index_B.tolist()]
        silent: list[int] = []
        for index, uri, choose, fetch in zip(index_B.tolist(), uris, choosers, self._fetch(index_B, uris), strict=True):
            try:
                image_CHW = decode(fetch(), uri, choose, size=size, channels=channels)
            except BrokenImage as error:
                broken.append((index, shown(uri), error.reason))
            except StorageError as error:
                if not self.lenient:
                    raise
                silent.append(index)
                broken.append((index, shown(uri), error.message.removeprefix(f"{shown(uri)}: ")))
            else:
                images_BHWC[len(kept)] = image_CHW.permute(1, 2, 0)
                kept.append(len(kept) + len(broken))
        return Piece(epoch, images_BHWC[: len(kept)].permute(0, 3, 1, 2), index_B[kept], broken, silent=tuple(silent))

    def _fetch(self, index_B: npt.NDArray[np.int64], uris: Sequence[str]) -> Sequence[Callable[[], bytes]]:
        """For each record a function that gives its bytes; remote ones are on their way at once."""
        if self.encoded is not None:
            encoded = self.encoded
            return [lambda index=index: _kept(encoded, index) for index in index_B.tolist()]
        if not self.remote:
            return [lambda uri=uri: read_image(uri) for uri in uris]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(REMOTE_READS, thread_name_prefix="kinsight-read")
            self._servers = SilentServers() if self.lenient else None  # of this process: locks do not travel
        return fetches(uris, self._pool, self._servers)


def num_channels(image: ImageSpec) -> int:
    """Channels of an image tensor."""
    return 3 if image.color == "rgb" else 1


def any_remote(records: Records) -> bool:
    """Whether any image lies behind a network."""
    uris = records.table["uri"]
    remote = pc.and_not(pc.match_substring(uris, "://"), pc.starts_with(uris, "file://", ignore_case=True))
    return bool(pc.any(remote).as_py())


def _kept(encoded: EncodedImages, index: int) -> bytes:
    data = encoded.get(index)
    if data is None:
        raise BrokenImage("", "it could not be read when the cache was filled")
    return data
