"""What every reader of a source returns, before labels become class numbers and paths become addresses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from kinsight.data.labels import LabelKind


@dataclass(frozen=True)
class Parsed:
    """N images with M labels among them.

    path_N: string chunks, as written in the source. label_M: string chunks, the labels of all images one after the
    other; count_N: how many of them are each image's. line_N: line in the source, where it has lines. group_N: any
    type. extra: further columns. place: where record i stands, for messages. may_have_header: the first line may be
    a header that the reader cannot tell from an image. classes: names in label order, where the source knows them;
    labels are then names. unknown_M, unknown_count_N: like label_M, count_N, the labels of which nobody knows whether
    the image shows them. asked: labels that have a column of their own, nobody knows of any other; None:
    images show what is listed and nothing else. offset_N, length_N: int64, where images lie inside the files that
    path_N names.
    """

    path_N: pa.ChunkedArray
    label_M: pa.ChunkedArray
    count_N: np.ndarray
    place: Callable[[int], str]
    kind: LabelKind = "value"
    line_N: np.ndarray | None = None
    group_N: pa.ChunkedArray | None = None
    extra: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)
    notes: Sequence[str] = ()
    may_have_header: bool = False
    classes: Sequence[str] | None = None
    unknown_M: pa.ChunkedArray | None = None
    unknown_count_N: np.ndarray | None = None
    asked: Sequence[str] | None = None
    offset_N: np.ndarray | None = None
    length_N: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.count_N)


def strings(blocks: Sequence[pa.Array]) -> pa.ChunkedArray:
    """Blocks of strings as one column."""
    return pa.chunked_array(blocks, pa.string())
