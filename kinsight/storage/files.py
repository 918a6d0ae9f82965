"""Read, write, list and remove at any address. All functions take an Address or its text and raise StorageError."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from kinsight.errors import StorageError
from kinsight.storage import local, s3
from kinsight.storage.address import Address
from kinsight.storage.dispatch import AddressLike, existing, is_directory, read_range, stat, writable
from kinsight.storage.local import FileEntry
from kinsight.storage.sources import BytesSource, FileSource, parallel
from kinsight.storage.transfer import RemoteFile

_READ_AHEAD = 2**20


def read_bytes(address: AddressLike, *, start: int | None = None, length: int | None = None) -> bytes:
    """The bytes [start, start + length) of a file, all of them by default, fewer past its end."""
    if (start or 0) < 0 or (length or 0) < 0:
        raise ValueError(f"start={start}, length={length}: must not be negative")
    return read_range(Address.parse(address), start, length)[0]


def read_text(address: AddressLike) -> str:
    """A UTF-8 file, with or without byte order mark. Raises StorageError where it is not UTF-8."""
    address = Address.parse(address)
    try:
        return read_bytes(address).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(
            "storage.not-text", f"{address}: not UTF-8 at byte {error.start}", remedy="save it as UTF-8"
        ) from None


def open_read(address: AddressLike) -> IO[bytes]:
    """A seekable binary file, for readers that pick parts (Parquet, zip). Each part is a request that is repeated."""
    address = Address.parse(address)
    if address.is_local:
        with local.local_errors(address.local_path):
            return address.local_path.open("rb")
    found = existing(address)
    if found.size < 0:
        return io.BytesIO(read_bytes(address))
    return cast(IO[bytes], io.BufferedReader(RemoteFile(address, found), _READ_AHEAD))


def write_bytes(address: AddressLike, data: bytes | memoryview) -> None:
    """The file holds `data` afterwards, or, if this fails, exactly what it held before. Directories are made."""
    address = Address.parse(address)
    if address.is_local:
        local.write_atomically(address.local_path, data)
    else:
        s3.write_object(writable(address), BytesSource(data))


def write_text(address: AddressLike, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(address, text.encode("utf-8"))


@contextmanager
def open_write(address: AddressLike) -> Iterator[IO[bytes]]:
    """A binary file that appears at `address`, whole, when the body ends well, and not at all when it does not."""
    address = Address.parse(address)
    if address.is_local:
        with local.atomic_file(address.local_path) as file:
            yield file
        return
    writable(address)
    with tempfile.TemporaryDirectory(prefix="kinsight-") as folder:
        spool = Path(folder, "spool")
        with local.local_errors(spool), spool.open("wb") as file:
            yield file
        s3.write_object(address, FileSource.of(spool))


def exists(address: AddressLike) -> bool:
    """Whether a file or a directory is there. A missing bucket is an error, not False."""
    address = Address.parse(address)
    return stat(address) is not None or is_directory(address)


def size(address: AddressLike) -> int:
    """Size of a file in bytes. Raises StorageError where there is none or the server does not say."""
    address = Address.parse(address)
    found = existing(address)
    if found.size < 0:
        raise StorageError(
            "storage.unsupported", f"{address}: the server states no size", remedy="copy it to a file first"
        )
    return found.size


def list_files(address: AddressLike, *, recursive: bool = True) -> list[FileEntry]:
    """The files below a directory, sorted by relative path; `address.child(entry.relative)` is a file's address.

    Empty for a directory that is there and empty; StorageError for one that is absent, or a file. Local links are
    followed.
    """
    address = Address.parse(address)
    if address.is_local:
        return local.list_local(address.local_path, recursive=recursive)
    if address.scheme not in ("s3", "oss"):
        raise StorageError(
            "storage.unsupported",
            f"{address}: a web server's directories cannot be listed",
            remedy="name the files in a list, or use s3://, oss:// or a local path",
        )
    entries, something = s3.list_objects(address, recursive=recursive)
    if something:
        return entries
    if s3.stat_object(address) is not None:
        raise StorageError(
            "storage.not-a-directory", f"{address}: is a file, not a directory", remedy="name a directory"
        )
    raise StorageError(
        "storage.not-found", f"{address}: no object lies below it", remedy="check the path, letter by letter"
    )


def remove(address: AddressLike) -> None:
    """Removes one file; none there is fine."""
    address = Address.parse(address)
    if address.is_local:
        with local.local_errors(address.local_path):
            address.local_path.unlink(missing_ok=True)
    else:
        s3.delete_object(writable(address))


def remove_tree(address: AddressLike) -> None:
    """Removes a file, or a directory with all it holds; nothing there is fine. Refuses roots, buckets and homes."""
    address = Address.parse(address)
    if address.is_local:
        real = address.local_path.resolve()
        if real in (Path(real.anchor), Path.home(), Path.cwd()) or real in Path.cwd().parents:
            raise _too_much(address)
        local.remove_local(address.local_path)
        return
    if not writable(address).path.strip("/"):
        raise _too_much(address)
    entries = s3.list_keys(address)
    parallel(s3.delete_object, entries)


def _too_much(address: Address) -> StorageError:
    return StorageError("storage.refused", f"{address}: not removed as a whole", remedy="name a directory below it")
