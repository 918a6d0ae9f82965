"""An index on disk: `index.json`, which says which files of which generation belong together, and those files.

    index.json                  format, version, generation, what was built, files with sizes and SHA-256, and the
                                SHA-256 of all this; swapped last
    vectors-g000001.npy         float32 (n, D), as they were given
    norms-g000001.npy           float64 (n,), their lengths
    items-g000001.arrow         Arrow IPC file: id, label, uri, further columns
    structure-g000001.faiss     graph or lists over all rows; not for kind flat
    partition-g000001.safetensors   the learned partition, for kind learned
    deleted-g000002.npy         int64, ascending: rows that searches leave out

A write makes new files under a new generation's names (in object storage with the writer's token:
vectors-g000001-0123456789abcdef.npy), then swaps the header; files that neither it nor the header
before it names are removed. A reader therefore holds one state throughout, and has until the write after next to open
it.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kinsight import storage
from kinsight.errors import DataError, StorageError

FORMAT = "kinsight-index"
VERSION = 2
HEADER = "index.json"
_PARTS, _ENDINGS = "vectors|norms|items|structure|partition|deleted", "npy|arrow|faiss|safetensors"
DATA_FILE = re.compile(rf"({_PARTS})-g(\d{{6,}})(?:-[0-9a-f]{{16}})?\.({_ENDINGS})")
_DIGEST, _DIGEST_SINCE = "digest", 2
# MIGRATIONS[n] turns a header of version n into one of version n + 1; its digest has been checked before.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: dict}  # version 1 had no digest


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class FileMark(_Lenient):
    """What a file must be. sha256: in hex."""

    size: int = Field(ge=0)
    sha256: str


class Segment(_Lenient):
    """Consecutive rows, by the names of their files."""

    rows: int = Field(ge=1)
    vectors: str
    norms: str
    items: str


class IndexHeader(_Lenient):
    """What an index says of itself.

    generation: number of the write. live: rows that searches find. next_id: what running numbers go on with; None
    where ids come from `id_column`. columns: further columns kept. model, model_hash, normalized: of the embeddings;
    None where another tool made them. structure: the settings of `kind`, all of them decided. previous: files of the
    generation before. kinsight: version that wrote it. spec: the job that built it.
    """

    format: Literal["kinsight-index"] = FORMAT
    version: int = VERSION
    generation: int = Field(ge=1)
    kinsight: str = ""
    kind: str
    metric: Literal["cosine", "ip", "l2"]
    dim: int = Field(ge=1)
    rows: int = Field(ge=0)
    live: int = Field(ge=0)
    id_type: Literal["int64", "string"]
    id_column: str | None = None
    next_id: int | None = None
    columns: tuple[str, ...] = ()
    model: str | None = None
    model_hash: str | None = None
    normalized: bool | None = None
    structure: dict[str, Any]
    segments: tuple[Segment, ...]
    structure_file: str | None = None
    partition_file: str | None = None
    deleted_file: str | None = None
    files: dict[str, FileMark]
    previous: tuple[str, ...] = ()
    written: str = ""
    spec: dict[str, Any] = {}

    def check(self) -> str:
        """Why the header contradicts itself; empty where it does not."""
        named = [name for part in self.segments for name in (part.vectors, part.norms, part.items)]
        named += [name for name in (self.structure_file, self.partition_file, self.deleted_file) if name is not None]
        if sorted(named) != sorted(self.files):
            return "its files are not those of its parts"
        if odd := [name for name in named if not DATA_FILE.fullmatch(name)]:
            return f"{odd[0]!r} is no name of an index's file"
        if sum(part.rows for part in self.segments) != self.rows or self.live > self.rows:
            return f"{self.rows} rows, {self.live} live, segments of {[part.rows for part in self.segments]}"
        return ""


def read_header(place: storage.Address) -> IndexHeader:
    """The header of the index at `place`. Raises StorageError where nothing is, DataError for anything but an index
    of this version, or one that can be migrated, and for one that was altered since it was written.
    """
    file = place.child(HEADER)
    if storage.stat(file) is None:
        raise _absent(place)
    text = storage.read_text(file)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _bad(file, f"is no JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise _bad(file, f"format is {found!r}, not {FORMAT!r}")
    try:
        header = IndexHeader.model_validate(_migrated(content, file))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _bad(file, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if fault := header.check():
        raise _bad(file, fault)
    return header


def write_header(place: storage.Address, header: IndexHeader) -> None:
    """Swap the header: from here on, readers see this generation."""
    text = json.dumps(sealed(header.model_dump(mode="json")), indent=1, ensure_ascii=False)
    storage.write_text(place.child(HEADER), text + "\n")


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content of index.json with its digest: SHA-256 of the rest as JSON, keys sorted, without spaces, in ASCII."""
    rest = {name: value for name, value in content.items() if name != _DIGEST}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return rest | {_DIGEST: hashlib.sha256(text.encode()).hexdigest()}


def _check_digest(content: dict[str, Any], version: int, file: storage.Address) -> None:
    """Metric and model are believed as they stand here: a wrong one gives wrong neighbours and no error."""
    found = content.get(_DIGEST)
    if found is None and version < _DIGEST_SINCE:
        return
    if found != sealed(content)[_DIGEST]:
        raise DataError(
            "index.altered",
            "is not as it was written (SHA-256 differs): it was altered by hand, or damaged",
            field=str(file),
            remedy="copy the index again from where it is whole, or build it again",
        )


def _migrated(content: dict[str, Any], file: storage.Address) -> dict[str, Any]:
    version = content.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _bad(file, f"version is {version!r}, not a number from 1")
    if version > VERSION:
        raise DataError(
            "index.newer",
            f"version {version}, this Kinsight reads up to {VERSION}; written by Kinsight {content.get('kinsight')}",
            field=str(file),
            remedy="use that version of Kinsight, or a later one, or build the index again",
        )
    _check_digest(content, version, file)
    while version < VERSION:
        content = MIGRATIONS[version](content)
        version += 1
        content["version"] = version
    return content


def _absent(place: storage.Address) -> DataError | StorageError:
    if not storage.is_directory(place):
        if not storage.exists(place):
            return StorageError("storage.not-found", f"{place}: no index there", remedy="check the address")
        return _no_index(place, "is a file, and an index is a folder")
    names = [entry.relative for entry in storage.list_files(place, recursive=False)]
    if any(DATA_FILE.fullmatch(name) for name in names):
        return DataError(
            "index.incomplete",
            f"{HEADER} is missing: it was not built to the end, or not copied whole",
            field=str(place),
            remedy="give the build command again, or copy all of its files",
        )
    return _no_index(place, f"there is no index: it holds no {HEADER}")


def _no_index(place: storage.Address, what: str) -> DataError:
    return DataError("index.absent", what, field=str(place), remedy="give the folder that `kinsight index build` wrote")


def _bad(file: storage.Address, what: str) -> DataError:
    return DataError(
        "index.header",
        f"is not the header of an index: {what}",
        field=str(file),
        remedy="copy it again, or build the index again",
    )
