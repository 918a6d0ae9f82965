"""Labels of records as rows of one cell a class: 1 shown, 0 not shown, -1 where nobody knows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.records import Records

UNKNOWN = "unknown"


class MultiHot:
    """The rows of records, made when they are asked for: images times classes would not fit memory at once."""

    def __init__(self, records: Records) -> None:
        self.num_classes = records.num_classes
        self._rows = [(1, _flat(records.table["labels"]))]
        if UNKNOWN in records.table.column_names:
            self._rows.append((-1, _flat(records.table[UNKNOWN])))

    def __getitem__(self, index_B: npt.ArrayLike) -> npt.NDArray[np.int8]:
        """int8 (B, C) of these record numbers. A label both shown and unknown is shown."""
        index_B = np.asarray(index_B, np.int64)
        found_BC = np.zeros((len(index_B), self.num_classes), np.int8)
        for value, (start_N1, label_M) in reversed(self._rows):
            count_B = start_N1[index_B + 1] - start_N1[index_B]
            row_M = np.repeat(np.arange(len(index_B)), count_B)
            place_M = np.arange(len(row_M)) - np.repeat(np.cumsum(count_B) - count_B, count_B)
            found_BC[row_M, label_M[start_N1[index_B][row_M] + place_M]] = value
        return found_BC

    @property
    def known_C(self) -> npt.NDArray[np.int64]:
        """Images of which it is known whether they show a class."""
        known_C = np.full(self.num_classes, len(self._rows[0][1][0]) - 1)
        if len(self._rows) > 1:
            (start_N1, label_M), (unknown_N1, unknown_M) = (flat for _, flat in self._rows)
            rows_M, rows_U = (np.repeat(np.arange(len(n) - 1), np.diff(n)) for n in (start_N1, unknown_N1))
            hidden = np.setdiff1d(rows_U * self.num_classes + unknown_M, rows_M * self.num_classes + label_M)
            known_C -= np.bincount(hidden % self.num_classes, minlength=self.num_classes)
        return known_C


def _flat(lists: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each row's class numbers begin, and all of them, one row after the other."""
    count_N = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    start_N1 = np.concatenate([[0], np.cumsum(count_N, dtype=np.int64)])
    return start_N1, pc.list_flatten(lists).to_numpy().astype(np.int64)
