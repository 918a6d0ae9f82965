"""Images of several labels: each distinct set of labels takes the place of a class."""

from collections.abc import Sequence

import pyarrow as pa
import torch
from torch import Tensor

from kinsight.data.arrow import pc


def has_several(lists: pa.ChunkedArray) -> bool:
    """Whether a column of lists of labels holds any that has not just one."""
    return bool(len(lists)) and pc.any(pc.not_equal(pc.fill_null(pc.list_value_length(lists), 0), 1)).as_py()


def label_sets(
    sides_NL: Sequence[Tensor], names: tuple[str, ...]
) -> tuple[list[Tensor], list[Tensor], tuple[str, ...]]:
    """The sets there are, over all sides: each side's rows with every label once, the set of each row, the sets' names.

    sides_NL: int64 (N, L) positions in names, padded with -1.
    """
    widest = max(rows_NL.shape[1] for rows_NL in sides_NL)
    rows_NL = torch.cat([_padded(rows_NL, widest) for rows_NL in sides_NL]).sort(dim=1, descending=True).values
    rows_NL[:, 1:][rows_NL[:, 1:] == rows_NL[:, :-1]] = -1
    rows_NL = rows_NL.sort(dim=1, descending=True).values
    set_SL, set_N = rows_NL.unique(dim=0, return_inverse=True)
    named = tuple(" + ".join(names[label] for label in reversed(row) if label >= 0) for row in set_SL.tolist())
    lengths = [len(side_NL) for side_NL in sides_NL]
    return list(rows_NL.split(lengths)), list(set_N.split(lengths)), named


def _padded(rows_NL: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(rows_NL, (0, width - rows_NL.shape[1]), value=-1)
