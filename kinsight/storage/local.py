"""Local files: atomic writes, listings, and what an OSError means to a user."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from kinsight.errors import StorageError

# Files aside, not yet renamed into place: never listed, so a crash leaves nothing that counts.
ASIDE_PREFIX = ".kinsight-aside-"

_MEANINGS: dict[int, tuple[str, str, str]] = {
    errno.ENOENT: ("not-found", "no such file or directory", "check the path"),
    errno.EACCES: ("denied", "permission denied", "change the permissions, or use another path or user"),
    errno.EPERM: ("denied", "the operation is not permitted", "change the permissions, or use another path or user"),
    errno.EROFS: ("read-only", "the file system is read-only", "choose an output on a writable file system"),
    errno.ENOSPC: ("full", "no space left on the device", "free some space, or choose another output"),
    errno.EDQUOT: ("full", "the disk quota is used up", "free some space, or choose another output"),
    errno.EFBIG: ("full", "the file system cannot hold a file of this size", "choose another output"),
    errno.ENOTDIR: (
        "not-a-directory",
        "a directory is needed where there is a file",
        "remove that file, or change the path",
    ),
    errno.EEXIST: (
        "not-a-directory",
        "a directory is needed where there is a file",
        "remove that file, or change the path",
    ),
    errno.EISDIR: ("is-a-directory", "is a directory where a file is needed", "name a file"),
    errno.ENAMETOOLONG: ("name-too-long", "the name is too long for the file system", "shorten it"),
    errno.ELOOP: ("link-loop", "symbolic links lead in a circle", "mend the links"),
    errno.ENOTEMPTY: ("not-empty", "the directory is not empty", "empty it, or choose another path"),
}


class FileEntry(NamedTuple):
    """One listed file. relative: path below the listed directory, with `/`; version: changes when the content does."""

    relative: str
    size: int
    version: str


class Stat(NamedTuple):
    """size in bytes, -1 where the server does not say; version: changes when the content does, empty where unknown."""

    size: int
    version: str


def local_error(error: OSError, path: Path | str) -> StorageError:
    """The StorageError that tells a user what `error` at `path` means and what to do."""
    code, meaning, remedy = _MEANINGS.get(
        error.errno or 0, ("failed", error.strerror or type(error).__name__, "check the disk")
    )
    return StorageError(f"storage.{code}", f"{path}: {meaning}", remedy=remedy)


@contextmanager
def local_errors(path: Path | str) -> Iterator[None]:
    """Turns the OSErrors of its body into StorageErrors about `path`."""
    try:
        yield
    except OSError as error:
        raise local_error(error, path) from error


def make_directory(path: Path) -> None:
    """Creates `path` and its parents. Raises StorageError."""
    with local_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the body ends well, and leaves `path` untouched when it does not.

    Written aside in the same directory, fsynced, renamed, and the rename made durable. Raises StorageError.
    """
    with local_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.parent / f"{ASIDE_PREFIX}{os.urandom(8).hex()}"
        try:
            with aside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def remove_left_aside(path: Path) -> None:
    """Removes what writers that were killed left aside in a directory that nobody else writes to now."""
    for left in path.glob(f"{ASIDE_PREFIX}*"):
        with suppress(OSError):
            left.unlink()


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """`path` holds `data` afterwards, or what it held before. Raises StorageError."""
    with atomic_file(path) as file:
        file.write(data)


def sync_directory(path: Path) -> None:
    """Makes renames in `path` survive a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such call
            raise
    finally:
        os.close(descriptor)


def read_range(path: Path, start: int | None, length: int | None) -> bytes:
    """The bytes [start, start + length) of `path`, fewer past its end. Raises StorageError."""
    with local_errors(path), path.open("rb") as file:
        if start:
            file.seek(start)
        return file.read() if length is None else file.read(length)


def version_of(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}"


def list_local(directory: Path, *, recursive: bool) -> list[FileEntry]:
    """The files below `directory`, sorted by relative path, through symbolic links. Raises StorageError."""
    found: list[FileEntry] = []
    with local_errors(directory):
        _collect(str(directory), "", recursive, (), found.append)
    found.sort()
    return found


def _collect(
    directory: str, prefix: str, recursive: bool, above: tuple[tuple[int, int], ...], add: Callable[[FileEntry], None]
) -> None:
    status = os.stat(directory)  # noqa: PTH116  strings: this runs once per directory of large sets
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return  # a link to a directory that holds it
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(ASIDE_PREFIX):
                continue
            if entry.is_dir():
                if recursive:
                    _collect(entry.path, f"{prefix}{entry.name}/", recursive, (*above, identity), add)
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # a dangling link, or removed meanwhile
            add(FileEntry(prefix + entry.name, status.st_size, version_of(status)))


def remove_local(path: Path) -> None:
    """Removes a file or a directory with all it holds; nothing there is fine. Raises StorageError."""
    with local_errors(path):
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        elif path.exists():
            shutil.rmtree(path)
