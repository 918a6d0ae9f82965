"""Rows of labels against loops over lists."""

import numpy as np
import pyarrow as pa
import pytest

from kinsight.data import Records
from kinsight.data.multi_hot import MultiHot

LABELS = [[0, 2], [], [1], None, [2, 0, 1], [3]]
UNKNOWN = [[1], [0, 1, 2, 3], None, [2], [], [3]]


def records(*, unknown: bool, chunks: int = 1) -> Records:
    columns = {"uri": pa.array([str(i) for i in range(6)]), "labels": pa.array(LABELS, pa.list_(pa.int32()))}
    if unknown:
        columns["unknown"] = pa.array(UNKNOWN, pa.list_(pa.int32()))
    table = pa.table(columns)
    if chunks > 1:
        table = pa.concat_tables([table.slice(i, 6 // chunks) for i in range(0, 6, 6 // chunks)])
    return Records(table, ("a", "b", "c", "d", "e"))


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("chunks", [1, 3])
def test_rows(unknown: bool, chunks: int) -> None:
    expected = np.zeros((6, 5), np.int8)
    for i in range(6):
        for label in (UNKNOWN[i] or []) if unknown else []:
            expected[i, label] = -1
        for label in LABELS[i] or []:
            expected[i, label] = 1  # also where it is listed as unknown
    found = MultiHot(records(unknown=unknown, chunks=chunks))
    for index in ([0, 1, 2, 3, 4, 5], [4, 4, 1], [], [3]):
        rows = found[np.array(index, np.int64)]
        assert rows.dtype == np.int8
        np.testing.assert_array_equal(rows, expected[np.array(index, np.int64)])


def test_known() -> None:
    assert MultiHot(records(unknown=False)).known_C.tolist() == [6] * 5
    # of d one image, whose list says both shown and unknown, is known
    assert MultiHot(records(unknown=True)).known_C.tolist() == [5, 4, 4, 5, 6]
