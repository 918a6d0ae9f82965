"""Whether embeddings may be added to an index, or spread by a partition: of the same model, length and scale."""

from kinsight.data.streaming import EmbeddingStream
from kinsight.errors import DataError
from kinsight.indexing.index import Index
from kinsight.partition import Partition


def refuse_other(index: Index, stream: EmbeddingStream) -> None:
    """Raise unless the embeddings are what the index is made of."""
    theirs, header = stream.header.get("model"), index.header
    if stream.dim != index.dim:
        raise _other(stream, f"vectors of length {stream.dim}, the index holds {index.dim}")
    if stream.header.get("model_hash") != header.model_hash or (theirs != header.model and header.model_hash is None):
        mine = header.model or "a tool that names no model"
        raise _other(stream, f"made by {theirs or 'a tool that names no model'}, the index by {mine}")
    if header.metric != "cosine" and stream.header.get("normalized") != header.normalized:
        words = {True: "of unit length", False: "as they came out of the model", None: "of unknown scale"}
        mine = words[header.normalized]
        raise _other(stream, f"vectors {words[stream.header.get('normalized')]}, the index holds them {mine}")


def fitting_partition(address: str, stream: EmbeddingStream) -> Partition:
    """The partition at an address. Raises as `Partition.load`, and DataError unless it is of such embeddings."""
    partition = Partition.load(address)
    header, theirs = partition.header, stream.header.get("model_hash")
    if header.dim != stream.dim:
        raise _other(stream, f"vectors of length {stream.dim}, the partition was learned from {header.dim}")
    if header.model_hash is not None and theirs is not None and header.model_hash != theirs:
        made = stream.header.get("model") or "another model"
        raise _other(stream, f"made by {made}, the partition was learned from vectors of {header.model or 'another'}")
    return partition


def _other(stream: EmbeddingStream, what: str) -> DataError:
    return DataError(
        "index.other-model",
        f"{what}: they cannot be compared",
        field=str(stream.place),
        remedy="embed with the model and settings of the index, or build another index",
    )
