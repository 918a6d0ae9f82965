"""A job's output directory: a local path to write in, whatever the address, with headers published last.

Local addresses are written in place. For remote ones the files stand in a scratch directory that `sync` mirrors:
changed files only, and JSON files, the headers that make an artefact complete, after everything else.
"""

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from kinsight.errors import StorageError
from kinsight.storage import files
from kinsight.storage.address import Address
from kinsight.storage.confine import confine
from kinsight.storage.dispatch import AddressLike, is_directory
from kinsight.storage.local import ASIDE_PREFIX, FileEntry, list_local, local_errors, make_directory, write_atomically
from kinsight.storage.sources import Progress, parallel
from kinsight.storage.transfer import download_file, upload_file

SCRATCH_VARIABLE = "KINSIGHT_SCRATCH"
_log = logging.getLogger("kinsight.storage")


class _Mark(NamedTuple):
    """How a file looked when it was last the same on both sides."""

    size: int
    mtime_ns: int
    inode: int


class OutputDir:
    """The directory at `address`; as a context manager it is synchronised at the end and its scratch removed.

    path: where to write. Threads may call `sync` while others write, provided that files are written aside and renamed
    or are complete before their header appears.
    """

    def __init__(self, address: AddressLike, scratch: Path | None = None) -> None:
        self.address = Address.parse(address)
        self._lock = threading.Lock()
        self._marks: dict[str, _Mark] = {}
        if self.address.is_local:
            self.path = self.address.local_path
        elif self.address.scheme in ("s3", "oss"):
            self.path = _new_scratch(scratch)
        else:
            raise StorageError(
                "storage.unsupported",
                f"{self.address}: web addresses are read only",
                remedy="write to s3://, oss:// or a local path",
            )

    @property
    def is_remote(self) -> bool:
        return not self.address.is_local

    def check_writable(self) -> None:
        """Writes and removes a small file, so that hours of work do not end at a closed door. Raises StorageError."""
        name = f"{ASIDE_PREFIX}{os.urandom(8).hex()}"
        try:
            self._try_writing(name)
        except StorageError as error:  # of the user's address, not of our file
            message = error.message.replace(f"/{name}", "")
            raise StorageError(error.code, message, field=error.field, remedy=error.remedy) from None

    def _try_writing(self, name: str) -> None:
        if self.is_remote:
            probe = self.address.child(name)
            files.write_bytes(probe, b"probe")
            files.remove(probe)
            return
        with local_errors(self.path):
            made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            write_atomically(self.path / name, bytes(4096))
        finally:
            with suppress(OSError):
                (self.path / name).unlink(missing_ok=True)
                for folder in made:
                    folder.rmdir()

    def exists(self) -> bool:
        """Whether anything is at the address already. Raises StorageError."""
        return files.exists(self.address)

    def pull(
        self, select: Callable[[str], bool] = lambda relative: True, progress: Progress | None = None
    ) -> list[str]:
        """Brings the files already at a remote address (those that `select` takes) to `path`; their relative paths."""
        if not self.is_remote or not is_directory(self.address):
            return []
        entries = [entry for entry in files.list_files(self.address) if select(entry.relative)]

        def fetch(relative: str) -> None:
            download_file(self.address.child(relative), confine(self.path, relative), progress)

        with self._lock:
            names = [entry.relative for entry in entries]
            parallel(fetch, names)
            self._marks.update({name: mark for name in names if (mark := self._mark(name))})
        return names

    def sync(self, progress: Progress | None = None) -> list[str]:
        """Mirrors what changed since the last call; the relative paths sent. Raises StorageError; may be repeated."""
        return self._mirror(None, progress)

    def publish(self, header: Path | str, progress: Progress | None = None) -> list[str]:
        """Like `sync`, with `header` (a path below `path`) sent after everything else. Raises StorageError."""
        relative = Path(self.path, header).relative_to(self.path).as_posix()
        if not (self.path / relative).is_file():
            raise StorageError("storage.not-found", f"{self.path / relative}: no such file", remedy="write it first")
        return self._mirror(relative, progress)

    def _mirror(self, last: str | None, progress: Progress | None) -> list[str]:
        if not self.is_remote:
            return []
        with self._lock:
            present = {entry.relative: mark for entry in self._entries() if (mark := self._mark(entry.relative))}
            changed = [name for name, mark in present.items() if self._marks.get(name) != mark]
            gone = [name for name in self._marks if name not in present]
            headers = sorted(
                (name for name in changed if _is_header(name, last)), key=lambda n: (n == last, present[n].mtime_ns, n)
            )
            content = [name for name in changed if name not in headers]
            stale = [name for name in headers if name in self._marks and _covers(name, content)]
            self._remove([name for name in gone if _is_header(name, last)] + stale)
            parallel(lambda name: self._send(name, present[name], progress), content)
            for name in headers:
                self._send(name, present[name], progress)
            self._remove([name for name in gone if not _is_header(name, last)])
            return content + headers

    def _entries(self) -> list[FileEntry]:
        return list_local(self.path, recursive=True)

    def _mark(self, relative: str) -> _Mark | None:
        try:
            status = os.stat(self.path / relative)  # noqa: PTH116
        except FileNotFoundError:
            return None
        return _Mark(status.st_size, status.st_mtime_ns, status.st_ino)

    def _send(self, relative: str, mark: _Mark, progress: Progress | None) -> None:
        path = self.path / relative
        try:
            upload_file(path, self.address.child(relative), progress)
        except StorageError:
            if path.exists():
                raise
            return  # removed since it was listed, such as an old checkpoint
        self._marks[relative] = mark

    def _remove(self, names: list[str]) -> None:
        for name in names:
            files.remove(self.address.child(name))
            self._marks.pop(name, None)

    def __enter__(self) -> Self:
        make_directory(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.is_remote:
            return
        try:
            self.sync()
        except StorageError as failure:
            kept = f"the output so far is kept in {self.path}"
            if error is None:
                raise StorageError(failure.code, f"{failure.message}; {kept}", remedy=failure.remedy) from failure
            _log.warning("%s; %s", failure.message, kept)
            return
        shutil.rmtree(self.path, ignore_errors=True)


def _new_scratch(scratch: Path | None) -> Path:
    base = scratch or Path(os.environ.get(SCRATCH_VARIABLE) or tempfile.gettempdir()).expanduser()
    with local_errors(base):
        base.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="kinsight-output-", dir=base))


def _is_header(name: str, last: str | None) -> bool:
    return name == last or name.endswith(".json")


def _covers(header: str, content: list[str]) -> bool:
    """Whether any of `content` lies in the directory that `header` describes."""
    folder = header.rpartition("/")[0]
    return (not folder and bool(content)) or any(name.startswith(f"{folder}/") for name in content)
