"""Which files a TFRecord source names: one address, or a pattern at any address that can be listed."""

import difflib
from fnmatch import fnmatchcase
from typing import NamedTuple

from kinsight import storage
from kinsight.errors import DataError, StorageError
from kinsight.storage import Address

WILD = "*?["
_ENDINGS = ("tfrecord", "tfrecords", "tfrec")
SIDECAR = ".idx"


class Shard(NamedTuple):
    """One file. version: changes when its content does, empty where unknown. sidecar: an index beside it, if any."""

    address: Address
    size: int
    version: str
    sidecar: Address | None = None

    @property
    def name(self) -> str:
        """The address, for messages."""
        return str(self.address)


def find_shards(path: str) -> list[Shard]:
    """The files at `path`, which may hold *, ? and [...] within its parts, in the order of their names.

    Raises DataError where nothing is, nothing matches, or a file is empty; StorageError.
    """
    address = Address.parse(path)
    address = Address.parse(str(address.local_path.absolute())) if address.is_local else address
    if (found := storage.stat(address)) is not None:
        shards = [Shard(address, found.size, found.version, _sidecar_of(address))]
    elif any(mark in address.path for mark in WILD) and address.scheme not in ("http", "https"):
        shards = _matching(address)
    else:
        raise _missing(address)
    if empty := next((shard for shard in shards if shard.size == 0), None):
        raise DataError(
            "data.tfrecord-empty",
            "is empty: not one record (0 bytes)",
            field=empty.name,
            remedy="copy it again, or remove it",
        )
    return shards


def _matching(pattern: Address) -> list[Shard]:
    parts = pattern.path.split("/")
    wild = next(number for number, part in enumerate(parts) if any(mark in part for mark in WILD))
    base = Address(
        pattern.scheme, pattern.container, "/".join(parts[:wild]) or "/" * pattern.is_local, pattern.endpoint
    )
    asked = parts[wild:]
    try:
        entries = storage.list_files(base, recursive=len(asked) > 1)
    except StorageError as error:
        if error.code not in ("storage.not-found", "storage.not-a-directory"):
            raise
        raise _nothing(
            pattern, f"{base} is no folder with files in it", "check the address, letter by letter"
        ) from None
    names = {entry.relative for entry in entries}
    shards = [
        Shard(base.child(entry.relative), entry.size, entry.version, _beside(base, entry.relative, names))
        for entry in entries
        if _fits(entry.relative, asked) and not entry.relative.endswith(SIDECAR)
    ]
    if not shards:
        raise _nothing(pattern, *_instead(base, names, asked[-1]))
    return shards


def _fits(relative: str, asked: list[str]) -> bool:
    parts = relative.split("/")
    return len(parts) == len(asked) and all(map(fnmatchcase, parts, asked))


def _beside(base: Address, relative: str, names: set[str]) -> Address | None:
    found = next((name for name in _sidecar_names(relative) if name in names), None)
    return base.child(found) if found is not None else None


def _sidecar_of(address: Address) -> Address | None:
    if address.scheme in ("http", "https"):
        return None
    candidates = [address.parent.child(name) for name in _sidecar_names(address.name)]
    return next((candidate for candidate in candidates if storage.stat(candidate) is not None), None)


def _sidecar_names(name: str) -> tuple[str, ...]:
    stem, _, ending = name.rpartition(".")
    return (name + SIDECAR, stem + SIDECAR) if ending in _ENDINGS and stem else (name + SIDECAR,)


def _instead(base: Address, names: set[str], asked: str) -> tuple[str, str]:
    """What is there, and what to do."""
    near = difflib.get_close_matches(asked, sorted(names), n=1, cutoff=0.4)
    there = f"{base} holds {len(names)} files" + (f", for example {near[0] if near else min(names)}" if names else "")
    return there, "mend the pattern"


def _nothing(pattern: Address, there: str, remedy: str) -> DataError:
    return DataError("data.tfrecord-missing", f"no file matches; {there}", field=str(pattern), remedy=remedy)


def _missing(address: Address) -> DataError:
    if storage.is_directory(address):
        what, remedy = "is a folder", f"write {str(address).rstrip('/')}/*.tfrecord, or what the files are called"
    else:
        what, remedy = "there is no such file", "check the address, letter by letter"
    return DataError("data.tfrecord-missing", what, field=str(address), remedy=remedy)
