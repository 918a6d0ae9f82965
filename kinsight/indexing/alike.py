"""Whether two indexes may become one: of the same model, metric, length, scale, ids and columns."""

import pyarrow as pa

from kinsight.errors import DataError
from kinsight.indexing.index import Index

_SCALE = {True: "of unit length", False: "as they came out of the model", None: "of unknown scale"}


def refuse_unlike(first: Index, other: Index) -> None:
    """Raise DataError naming both and the first difference."""
    ours, theirs = first.header, other.header
    if first.dim != other.dim:
        raise _unlike(first, other, f"vectors of length {first.dim}", f"of length {other.dim}")
    same = ours.model_hash == theirs.model_hash and (ours.model_hash is not None or ours.model == theirs.model)
    if not same:
        raise _unlike(first, other, f"made by {_model(first)}", f"by {_model(other)}")
    if first.metric != other.metric:
        raise _unlike(first, other, f"metric {first.metric}", f"metric {other.metric}")
    if first.metric != "cosine" and ours.normalized != theirs.normalized:
        raise _unlike(first, other, f"vectors {_SCALE[ours.normalized]}", _SCALE[theirs.normalized])
    if ours.id_column != theirs.id_column:
        raise _unlike(first, other, f"ids are {_ids(first)}", f"they are {_ids(other)}")
    if ours.id_type != theirs.id_type:
        raise _unlike(first, other, f"ids are of type {ours.id_type}", f"of type {theirs.id_type}")
    if (mine := _columns(first)) != (yours := _columns(other)):
        raise _unlike(first, other, f"columns {_shown(mine)}", f"columns {_shown(yours)}")


def _columns(index: Index) -> dict[str, pa.DataType]:
    schema = index.items([]).schema
    return {name: schema.field(name).type for name in index.columns}


def _shown(columns: dict[str, pa.DataType]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items()) or "none"


def _model(index: Index) -> str:
    header = index.header
    mark = f" ({header.model_hash[:12]})" if header.model_hash else ""
    return f"{header.model}{mark}" if header.model else f"a tool that names no model{mark}"


def _ids(index: Index) -> str:
    return f"of column {index.header.id_column!r}" if index.header.id_column else "running numbers"


def _unlike(first: Index, other: Index, ours: str, theirs: str) -> DataError:
    return DataError(
        "index.unlike",
        f"{first.address}: {ours}; {other.address}: {theirs}",
        field="indexes",
        remedy="merge indexes built alike, from embeddings of one model",
    )
