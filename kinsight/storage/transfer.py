"""Whole files moved between a remote address and a local one, and remote files read part by part."""

import io
import os
import shutil
from pathlib import Path
from typing import IO

from kinsight.storage import local, s3
from kinsight.storage.address import Address
from kinsight.storage.dispatch import AddressLike, existing, read_range, same_version, writable
from kinsight.storage.local import Stat
from kinsight.storage.sources import PART_BYTES, FileSource, Progress, parallel


def download_file(address: AddressLike, target: Path, progress: Progress | None = None) -> None:
    """Copies a file to `target`, atomically; large ones in parallel parts. progress: called with bytes moved."""
    address = Address.parse(address)
    found = existing(address)
    with local.atomic_file(target) as file:
        fetch_into(address, found, file, progress)


def fetch_into(address: Address, found: Stat, file: IO[bytes], progress: Progress | None) -> None:
    """Writes the file at `address`, known to be `found`, into `file`. Raises StorageError if it changes meanwhile."""
    if address.is_local:
        with local.local_errors(address.local_path), address.local_path.open("rb") as source:
            shutil.copyfileobj(source, file)
    elif found.size < 0 or found.size <= PART_BYTES:
        data, version = read_range(address, None, None)
        same_version(address, found, version)
        file.write(data)
        if progress:
            progress(len(data))
        return
    else:
        _fetch_parts(address, found, file, progress)
        return
    if progress:
        progress(found.size)


def _fetch_parts(address: Address, found: Stat, file: IO[bytes], progress: Progress | None) -> None:
    def fetch(start: int) -> None:
        wanted = min(PART_BYTES, found.size - start)
        data, version = read_range(address, start, wanted)
        same_version(address, found, version if len(data) == wanted else "shorter")
        with local.local_errors(file.name):
            os.pwrite(file.fileno(), data, start)
        if progress:
            progress(len(data))

    parallel(fetch, range(0, found.size, PART_BYTES))


def upload_file(path: Path, address: AddressLike, progress: Progress | None = None) -> None:
    """Copies a local file to `address`, atomically; large ones in parallel parts. progress: called with bytes moved."""
    address = Address.parse(address)
    source = FileSource.of(path)
    if not address.is_local:
        s3.write_object(writable(address), source, progress)
        return
    with local.atomic_file(address.local_path) as file:
        fetch_into(Address.parse(path), Stat(source.size, ""), file, progress)


class RemoteFile(io.RawIOBase):
    """Ranges of a remote file, read on demand; the version must stay the one that was opened."""

    def __init__(self, address: Address, found: Stat) -> None:
        self._address, self._found, self._at = address, found, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._found.size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}: before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  the typeshed name is private
        wanted = min(len(buffer), max(0, self._found.size - self._at))
        if wanted == 0:
            return 0
        data, version = read_range(self._address, self._at, wanted)
        same_version(self._address, self._found, version if len(data) == wanted else "shorter")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
