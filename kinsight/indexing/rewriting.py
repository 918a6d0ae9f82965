"""Rows of indexes written anew, and a graph or lists made of them."""

import numpy as np
import pyarrow as pa

from kinsight.indexing.growing import Blocks
from kinsight.indexing.header import IndexHeader
from kinsight.indexing.index import Index
from kinsight.indexing.learned import Learned
from kinsight.partition import Partition

_BLOCK = 16_384


def rows_left(index: Index) -> np.ndarray:
    """int64 rows that searches find, ascending."""
    return np.setdiff1d(np.arange(index.num_rows), index.dead_rows())


def blocks_of(index: Index, row_M: np.ndarray, shift: int = 0) -> Blocks:
    """Rows of an index with their items, a block at a time. shift: is added to ids."""
    for start in range(0, len(row_M), _BLOCK):
        row_B = row_M[start : start + _BLOCK]
        items = index.items(row_B)
        if shift:
            id_B = items["id"].to_numpy() + shift
            items = items.set_column(0, items.schema.field("id"), pa.chunked_array([id_B]))
        yield index.vectors(row_B).numpy(), items


def partition_of(index: Index) -> Partition | None:
    """The learned partition of an index; None for other kinds."""
    return index.structure.partition if isinstance(index.structure, Learned) else None


def num_bytes(header: IndexHeader) -> int:
    """Of its files."""
    return sum(mark.size for mark in header.files.values())
