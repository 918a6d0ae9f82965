"""Tables whose columns cannot be told apart, class lists that are not there."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinsight.data import read_class_names, read_records
from kinsight.errors import DataError
from kinsight.specs.data import Csv, Parquet


def test_a_column_name_given_twice_is_named(tmp_path):
    (tmp_path / "list.csv").write_text("image,label,label\na.png,1,2\n")
    with pytest.raises(DataError, match=r"list\.csv: has 2 columns of the name 'label'"):
        read_records(Csv(path=str(tmp_path / "list.csv")))
    table = pa.Table.from_arrays([pa.array(["a.png"]), pa.array([1]), pa.array([2])], ["image", "label", "image"])
    pq.write_table(table, tmp_path / "list.parquet")
    with pytest.raises(DataError, match="has 2 columns of the name 'image'"):
        read_records(Parquet(path=str(tmp_path / "list.parquet")))


def test_a_missing_class_list_is_bad_data_and_says_which_setting(tmp_path):
    with pytest.raises(DataError, match=r"data\.classes: .*absent\.txt"):
        read_class_names(str(tmp_path / "absent.txt"))
