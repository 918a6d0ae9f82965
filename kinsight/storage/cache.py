"""Local copies of remote files and directories, fetched once per content and shared by all processes of a machine.

A copy is a directory named after address, version and size; it appears by rename when complete. A lock file per copy
makes a second process wait instead of fetching again. Nothing is ever evicted: remove `KINSIGHT_CACHE` at will
while no process uses it.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinsight.errors import StorageError
from kinsight.storage.address import Address
from kinsight.storage.confine import confine
from kinsight.storage.dispatch import AddressLike, stat
from kinsight.storage.files import list_files
from kinsight.storage.local import ASIDE_PREFIX, FileEntry, Stat, local_errors, make_directory
from kinsight.storage.s3 import missing
from kinsight.storage.sources import Progress, parallel
from kinsight.storage.transfer import fetch_into

CACHE_VARIABLE = "KINSIGHT_CACHE"


def cache_directory() -> Path:
    """`KINSIGHT_CACHE`, or `kinsight` below the user's cache directory (XDG)."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kinsight"


def copy_in(address: AddressLike, progress: Progress | None = None) -> Path:
    """A local path with the content of a file or directory: itself if local, else a cached copy, to be read only.

    progress: called with bytes moved, from any thread. Raises StorageError.
    """
    address = Address.parse(address)
    if address.is_local:
        with local_errors(address.local_path):
            address.local_path.stat()
        return address.local_path
    found = stat(address)
    if found is None and address.scheme not in ("s3", "oss"):
        raise StorageError("storage.not-found", f"{address}: no such file", remedy="check the address")
    if found is not None:
        known = bool(found.version)
        return _cached(
            address, f"{found.version}\0{found.size}", known, lambda path: _one(address, found, path, progress)
        )
    try:
        entries = list_files(address)
    except StorageError as error:
        raise (missing(address) if error.code == "storage.not-found" else error) from None
    version = hashlib.sha256(repr([tuple(entry) for entry in entries]).encode("utf-8", "surrogatepass")).hexdigest()
    return _cached(address, version, True, lambda path: _all(address, entries, path, progress))


def _one(address: Address, found: Stat, target: Path, progress: Progress | None) -> None:
    with local_errors(target), target.open("xb") as file:
        fetch_into(address, found, file, progress)


def _all(address: Address, entries: list[FileEntry], target: Path, progress: Progress | None) -> None:
    make_directory(target)

    def fetch(entry: FileEntry) -> None:
        path = confine(target, entry.relative)
        make_directory(path.parent)
        _one(address.child(entry.relative), Stat(entry.size, entry.version), path, progress)

    parallel(fetch, entries)


def _cached(address: Address, version: str, known: bool, fetch: Callable[[Path], None]) -> Path:
    cache = cache_directory()
    make_directory(cache)
    key = _digest(f"{address.uri}\0{version}".encode("utf-8", "surrogatepass"))
    final = cache / key / _plain_name(address)
    if known and final.exists():
        return final
    with _locked(cache / f"{key}.lock"):
        if known and final.exists():
            return final
        aside = cache / f"{ASIDE_PREFIX}{os.urandom(8).hex()}"
        make_directory(aside)
        try:
            fetch(aside / final.name)
            if not known:  # no way to tell whether the server's file changed: name the copy by its content
                final = cache / _digest((aside / final.name).read_bytes()) / final.name
            if not final.exists():
                with local_errors(final):
                    aside.replace(final.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with local_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # a file system without locks: two processes may then fetch the same, harmlessly
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _plain_name(address: Address) -> str:
    """The address's own name, whose suffix readers rely on, where it can be a file name."""
    name = address.name.replace("/", "_")
    if name in (".", "..") or len(name.encode("utf-8", "surrogatepass")) > 200 or "\0" in name:
        return "copy"
    return name
