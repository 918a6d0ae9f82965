"""What the jobs that write an index share: where they may write, what is carried over, what they show meanwhile."""

from typing import Any

from kinsight import progress, storage
from kinsight.errors import KinsightError, SpecError
from kinsight.indexing.growing import Blocks
from kinsight.indexing.header import HEADER, IndexHeader, read_header
from kinsight.specs.base import Spec
from kinsight.specs.load import as_tree

_CARRIED = (
    "kind",
    "metric",
    "dim",
    "rows",
    "live",
    "id_type",
    "id_column",
    "next_id",
    "columns",
    "model",
    "model_hash",
    "normalized",
    "structure",
    "partition_file",
    "spec",
)


def carried(header: IndexHeader) -> dict[str, Any]:
    """What a write takes over from the header before it."""
    return {name: getattr(header, name) for name in _CARRIED}


def counted(blocks: Blocks, name: str, total: int) -> Blocks:
    """The blocks; a bar moves as they are taken."""
    with progress.task(name, total, "vectors") as task:
        for vector_BD, table in blocks:
            yield vector_BD, table
            task.advance(len(table))


def to_replace(place: storage.Address, overwrite: bool) -> IndexHeader | None:
    """The header that is to be replaced, if there is one. Raises SpecError unless it may be."""
    if not storage.exists(place.child(HEADER)):
        return None
    if not overwrite:
        raise SpecError(
            "index.occupied",
            "holds an index",
            field=f"output={place}",
            remedy="choose another output, add to it, or --overwrite to build it anew",
        )
    try:
        return read_header(place)
    except KinsightError as error:
        progress.warn(f"what is replaced cannot be read: {error.message}")
        return None


def writable(address: str) -> storage.Address:
    """The address of an index that is to be written. Raises SpecError."""
    place = storage.Address.parse(address)
    if place.scheme in ("http", "https"):
        raise SpecError("index.read-only", "web addresses are read only", field=str(place), remedy="copy it to s3://")
    return place


def printed(spec: Spec) -> dict[str, Any]:
    """The settings as they are stored: addresses without signatures."""
    return {name: _unsigned(value) for name, value in as_tree(spec).items()}


def _unsigned(value: Any) -> Any:
    if isinstance(value, list):
        return [_unsigned(one) for one in value]
    return str(storage.Address.parse(value)) if isinstance(value, str) and "://" in value else value
