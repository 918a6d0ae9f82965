"""Which column of a table holds images, by what its cells look like."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import storage
from kinsight.data.sources.lines import find_list
from kinsight.data.sources.paths import SUFFIX_PATTERN
from kinsight.errors import KinsightError
from kinsight.specs.data import Csv, Parquet

_ROWS = 50  # looked at
_BEGINNING = 1 << 20  # bytes of a CSV file that are read
_DELIMITERS = ",\t;|"
_LIKE_AN_IMAGE = re.compile(rf"(?:[a-z][a-z0-9+.-]*://\S+|.*\.(?:{SUFFIX_PATTERN})(?:[?#].*)?)\s*", re.IGNORECASE)


def image_columns(source: Csv | Parquet) -> list[str]:
    """Columns whose first cells all look like addresses of images; none where the file cannot be read."""
    try:
        rows = _csv_rows(source) if isinstance(source, Csv) else _parquet_rows(source)
    except (KinsightError, OSError, ValueError, csv.Error, pa.ArrowException):
        return []
    names, *cells = rows
    found = {name: [row[place] for row in cells if place < len(row)] for place, name in enumerate(names)}
    return [name for name, column in found.items() if column and all(map(_LIKE_AN_IMAGE.fullmatch, column))]


def _csv_rows(source: Csv) -> list[Sequence[str]]:
    """Names, then rows. The delimiter is the one that gives the header most names."""
    with find_list(source.path).path.open("rb") as file:
        text = file.read(_BEGINNING).decode("utf-8-sig", errors="replace")
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    return list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), _ROWS + 1))


def _parquet_rows(source: Parquet) -> list[Sequence[str]]:
    with storage.open_read(source.path) as stream:
        batch = next(pq.ParquetFile(stream).iter_batches(batch_size=_ROWS), None)
    if batch is None:
        return []
    texts = [name for name in batch.column_names if pa.types.is_string(batch[name].type)]
    return [texts, *zip(*(map(str, batch[name].to_pylist()) for name in texts), strict=True)]
