"""Published files brought to this machine: from a file at hand, a mirror, or their publisher, and checked."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kinsight import progress, storage
from kinsight.datasets.catalogue import DataSet, Published
from kinsight.errors import DataError, SpecError, StorageError
from kinsight.specs.datasets import DataGetSpec

MIRROR_VARIABLE = "KINSIGHT_MIRROR"
_CHUNK = 2**20


def origins(spec: DataGetSpec, wanted: DataSet) -> dict[str, storage.Address]:
    """Where each file comes from: `archive` first, then the mirror, then the publisher.

    Raises SpecError for an archive that is none of the set's files, and where a file must be fetched by hand.
    """
    at_hand = _at_hand(spec.archive, wanted)
    mirror = spec.mirror or os.environ.get(MIRROR_VARIABLE)
    found: dict[str, storage.Address] = {}
    for file in wanted.files:
        if file.name in at_hand:
            found[file.name] = at_hand[file.name]
        elif mirror:
            found[file.name] = storage.Address.parse(mirror).child(file.name)
        elif file.url is not None:
            found[file.name] = storage.Address.parse(file.url)
    missing = [file.name for file in wanted.files if file.name not in found]
    if missing:
        raise SpecError(
            "datasets.by-hand",
            f"{', '.join(missing)} must be fetched by hand: {wanted.by_hand} ({wanted.page})",
            field="archive",
            remedy=f"then give --archive {' '.join(file.name for file in wanted.files)}",
        )
    return found


def _at_hand(archives: Sequence[str], wanted: DataSet) -> dict[str, storage.Address]:
    names = [file.name for file in wanted.files]
    found: dict[str, storage.Address] = {}
    for text in archives:
        address = storage.Address.parse(text)
        if address.name not in names:
            raise SpecError(
                "datasets.archive",
                f"{address.name} is none of the files of this set",
                field="archive",
                remedy=f"give them under the names they are published by: {', '.join(names)}",
            )
        found[address.name] = address
    return found


def fetch(file: Published, origin: storage.Address, folder: Path) -> Path:
    """The file in `folder`, or where it is if it is local; goes on with a partial download. Its checksum is checked.

    Raises DataError for a wrong checksum (the download is then removed), StorageError.
    """
    if origin.is_local:
        path = origin.local_path
        if storage.stat(origin) is None:
            raise DataError("datasets.archive", "there is no such file", field=str(origin), remedy="check the path")
        _check(file, path, str(origin))
        return path
    path = folder / file.name
    if not path.exists():
        try:
            found = storage.stat(origin)
        except StorageError as error:
            remedy = "without internet, give the files at hand (--archive) or a folder that has them (--mirror)"
            raise StorageError(error.code, error.message, field=error.field, remedy=remedy) from None
        size = found.size if found is not None and found.size >= 0 else None
        with progress.task(file.name, size / 1e6 if size else None, "MB") as task:
            storage.download_resumable(origin, path, lambda moved: task.advance(moved / 1e6))
    try:
        _check(file, path, str(origin))
    except DataError:
        path.unlink()
        raise
    return path


def _check(file: Published, path: Path, origin: str) -> None:
    if file.md5 is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with storage.local_errors(path), path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != file.md5:
        raise DataError(
            "datasets.checksum",
            f"has MD5 {digest.hexdigest()}, published is {file.md5}: damaged, or another file",
            field=origin,
            remedy="give the command again; if it stays so, fetch the file from elsewhere (--mirror, --archive)",
        )


def unpack(path: Path, target: Path) -> None:
    """Unpack an archive to a folder that appears whole; one that is there already is taken as it is."""
    if target.exists():
        return
    progress.say(f"unpack      {path.name}")
    storage.extract_archive(path, target)


def discard(folder: Path) -> None:
    """Remove the downloads."""
    shutil.rmtree(folder, ignore_errors=True)
