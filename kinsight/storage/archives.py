"""Unpacking zip and tar files that come from users: nothing outside the target, no links or devices, bounded size."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from kinsight.errors import DataError, StorageError
from kinsight.storage.confine import confine
from kinsight.storage.local import ASIDE_PREFIX, local_errors, make_directory

_CHUNK = 2**20
_RATIO_FREE = 64 * 2**20  # below this total no ratio is suspicious


class Limits(NamedTuple):
    """Bounds of one archive: unpacked bytes, number of members, unpacked : packed size."""

    total_bytes: int = 200 * 2**30
    members: int = 50_000_000
    ratio: float = 200.0


class _Member(NamedTuple):
    name: str
    size: int
    is_directory: bool
    refusal: str | None  # why this kind of member is not unpacked
    open: Callable[[], IO[bytes]]


def extract_archive(archive: Path, target: Path, limits: Limits = Limits()) -> Path:  # noqa: B008  immutable
    """Unpacks a zip or tar (plain, gz, bz2, xz) file into `target`, which must not exist or be empty; returns it.

    `target` appears only when all is there. Raises DataError (evil or broken archive), StorageError (file system).
    """
    with local_errors(target):
        if target.is_dir() and any(target.iterdir()):
            raise StorageError("storage.not-empty", f"{target}: is not empty", remedy="choose another directory")
    aside = target.parent / f"{ASIDE_PREFIX}{os.urandom(8).hex()}"
    make_directory(aside)
    try:
        _unpack(archive, aside, limits)
        with local_errors(target):
            aside.replace(target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(
            "data.archive", f"{archive}: damaged or unsupported ({error})", remedy="pack it again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _unpack(archive: Path, root: Path, limits: Limits) -> None:
    with local_errors(archive):
        packed = archive.stat().st_size
    allowed = min(limits.total_bytes, max(_RATIO_FREE, int(packed * limits.ratio)))
    total = 0
    for number, member in enumerate(_members(archive)):
        if number >= limits.members:
            raise _refused(archive, f"more than {limits.members} members")
        if member.refusal:
            raise _refused(archive, f"member {member.name!r} is {member.refusal}")
        if member.name.strip("/.") == "" and member.is_directory:
            continue
        try:
            path = confine(root, member.name)
        except StorageError:
            raise _refused(archive, f"member {member.name!r} would land outside the target") from None
        with local_errors(path):
            if member.is_directory:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            total += _copy(archive, member, path, allowed - total, allowed)


def _copy(archive: Path, member: _Member, path: Path, left: int, allowed: int) -> int:
    """Writes the member, trusting its real length only. Returns the bytes written."""
    written = 0
    with member.open() as source, path.open("wb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > left:
                raise _refused(archive, f"unpacks to more than {allowed} bytes")
            target.write(chunk)
    return written


def _members(archive: Path) -> Iterator[_Member]:
    with local_errors(archive):
        is_zip = zipfile.is_zipfile(archive)
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                yield _zip_member(opened, info)
        return
    try:
        tar = tarfile.open(archive, "r:*")  # noqa: SIM115  closed by the with below
    except tarfile.ReadError:
        raise DataError("data.archive", f"{archive}: neither a zip nor a tar file", remedy="name an archive") from None
    with tar:
        for info in tar:
            yield _tar_member(tar, info)


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    refusal = None
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refusal = "a link" if kind == stat.S_IFLNK else "a device"
    elif info.flag_bits & 1:
        refusal = "encrypted"
    return _Member(info.filename, info.file_size, info.is_dir(), refusal, lambda: opened.open(info))


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    refusal = None
    if not info.isreg() and not info.isdir():
        refusal = "a link" if info.islnk() or info.issym() else "a device"

    def opened() -> IO[bytes]:
        file = tar.extractfile(info)
        assert file is not None
        return file

    return _Member(info.name, info.size, info.isdir(), refusal, opened)


def _refused(archive: Path, why: str) -> DataError:
    return DataError(
        "data.archive",
        f"{archive}: {why}",
        remedy="unpack only archives whose origin you trust; this one was left alone",
    )
