"""Values that group images: super-classes, products, tracks; whole numbers or text in a column of any Arrow type."""

import pyarrow as pa

from kinsight.data.arrow import pc


def grouping_values(column: pa.ChunkedArray) -> pa.Array | None:
    """The values as int64 or string, null where there is none or an empty text; None for a column of anything else."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return grouping_values(column.cast(kind.value_type))
    if pa.types.is_integer(kind):
        wanted = pa.int64()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        wanted = pa.string()
    elif pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    else:
        return None
    chunks = [chunk.cast(wanted) for chunk in column.chunks]
    values = pa.concat_arrays(chunks) if chunks else pa.array([], wanted)
    return values if wanted == pa.int64() else pc.if_else(pc.equal(values, ""), pa.scalar(None, wanted), values)
