"""One writer of an index at a time. Readers need no lock.

Locally the operating system holds it, and lets go when the process ends, however it ends. In object storage an object
says who writes; the writer renews it, so that one left behind by a lost process counts for nothing after a while. A
process that stood still for as long may then find another writer at work: it leaves that one's lock alone, and ends.
"""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kinsight import progress, storage
from kinsight.errors import RunError, StorageError
from kinsight.indexing.header import HEADER

NAME = ".writer.lock"
_RENEW_S = 30.0
_STALE_S = 300.0
_SETTLE_S = 0.5  # after which, of two that found no lock, only the one whose lock stands goes on


@dataclass(frozen=True)
class Lock:
    """What a writer holds. file: the object that says so; None where the operating system does. token: its own."""

    place: storage.Address
    file: storage.Address | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def is_ours(self) -> bool:
        """Whether no other writer has come instead. Raises StorageError."""
        if self.file is None:
            return True
        held = _held(self.file)
        return held is not None and held["token"] == self.token

    def check(self) -> None:
        """Raise RunError where another writer has come instead."""
        if not self.is_ours:
            raise overtaken(self.place)

    def claim(self) -> None:
        """Say in the object that we write, from now on."""
        assert self.file is not None
        storage.write_text(self.file, json.dumps({"token": self.token, "time": time.time(), "writer": _me()}))


@contextmanager
def writing(place: storage.Address) -> Iterator[Lock]:
    """The body is the only writer of the index at `place`. Raises RunError naming who else is."""
    if place.is_local:
        path = place.local_path
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        storage.make_directory(path)
        try:
            with _local(path / NAME):
                yield Lock(place)
        finally:
            with suppress(OSError):  # where nothing came of it, folders made for it go again
                for folder in made:
                    folder.rmdir()
    else:
        with _remote(Lock(place, place.child(NAME))) as lock:
            yield lock


def overtaken(place: storage.Address) -> RunError:
    """The error of a writer that finds another one's work, or that one itself."""
    return RunError("index.overtaken", "another process has written it meanwhile", field=str(place), remedy="try again")


@contextmanager
def _local(path: Path) -> Iterator[None]:
    new = not path.exists()
    with storage.local_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            storage.remove_left_aside(path.parent)
        except BlockingIOError:
            raise _busy(str(path.parent), os.read(descriptor, 200).decode(errors="replace")) from None
        except OSError:
            progress.warn(f"{path.parent}: this file system has no locks; see to it that nobody else writes the index")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _me().encode(), 0)
        if not _is_at(descriptor, path):  # removed by the one who held it before
            raise _busy(str(path.parent), "")
        try:
            yield
        except BaseException:
            if new and not (path.parent / HEADER).exists():
                path.unlink()
            raise
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _remote(lock: Lock) -> Iterator[Lock]:
    file, done = lock.file, threading.Event()
    assert file is not None
    held = _held(file)
    if held is not None and time.time() - held["time"] < _STALE_S:
        raise _busy(str(lock.place), held["writer"], f", or remove {file} if that process is gone")

    def renew() -> None:
        while not done.wait(_RENEW_S):
            with suppress(StorageError):  # the next time may succeed; five may fail
                if not lock.is_ours:
                    return
                lock.claim()

    lock.claim()
    time.sleep(_SETTLE_S)
    held = _held(file)
    if held is None or held["token"] != lock.token:
        raise _busy(str(lock.place), held["writer"] if held else "another process")
    thread = threading.Thread(target=renew, name="kinsight-index-lock", daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        done.set()
        thread.join()
        if lock.is_ours:
            storage.remove(file)


def _held(file: storage.Address) -> dict | None:
    try:
        found = json.loads(storage.read_text(file))
        return {"token": str(found["token"]), "time": float(found["time"]), "writer": str(found["writer"])[:200]}
    except StorageError as error:
        if error.code == "storage.not-found":
            return None
        raise
    except (ValueError, KeyError, TypeError):
        return None


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _busy(place: str, who: str, more: str = "") -> RunError:
    return RunError(
        "index.locked",
        f"is being written by {who or 'another process'}",
        field=place,
        remedy=f"wait until it has finished{more}",
    )
