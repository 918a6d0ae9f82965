"""Which module answers for which scheme, and the few checks that all of them share."""

import os

from kinsight.errors import StorageError
from kinsight.storage import local, s3, web
from kinsight.storage.address import Address
from kinsight.storage.local import Stat

AddressLike = str | os.PathLike[str] | Address


def stat(address: AddressLike) -> Stat | None:
    """Size and version of a file, or None where there is no file. A missing local parent is None too."""
    address = Address.parse(address)
    match address.scheme:
        case "file":
            with local.local_errors(address.local_path):
                if not address.local_path.is_file():
                    return None
                status = address.local_path.stat()
                return Stat(status.st_size, local.version_of(status))
        case "s3" | "oss":
            return s3.stat_object(address)
        case "http" | "https":
            return web.stat_web(address)


def is_directory(address: AddressLike) -> bool:
    """Whether a directory is there; remotely, whether any object lies below. URLs have none."""
    address = Address.parse(address)
    match address.scheme:
        case "file":
            with local.local_errors(address.local_path):
                return address.local_path.is_dir()
        case "s3" | "oss":
            return s3.any_below(address)
        case "http" | "https":
            return False


def read_range(address: Address, start: int | None, length: int | None) -> tuple[bytes, str]:
    match address.scheme:
        case "file":
            return local.read_range(address.local_path, start, length), ""
        case "s3" | "oss":
            return s3.read_object(address, start, length)
        case "http" | "https":
            return web.read_web(address, start, length)


def existing(address: Address) -> Stat:
    if (found := stat(address)) is not None:
        return found
    if address.scheme in ("s3", "oss"):
        raise s3.missing(address)
    what = "is a directory, not a file" if is_directory(address) else "no such file"
    raise StorageError("storage.not-found", f"{address}: {what}", remedy="check the path")


def same_version(address: Address, found: Stat, version: str) -> None:
    if found.version and version != found.version:
        raise StorageError(
            "storage.changed", f"{address}: changed while it was read", remedy="try again once it is complete"
        )


def writable(address: Address) -> Address:
    if address.scheme in ("http", "https"):
        raise StorageError(
            "storage.unsupported",
            f"{address}: web addresses are read only",
            remedy="write to s3://, oss:// or a local path",
        )
    return address
