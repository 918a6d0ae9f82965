"""CSV and Parquet files with named columns."""

import csv
import re
from collections.abc import Callable, Sequence

import pyarrow as pa
from pyarrow import csv as pa_csv
from pyarrow import parquet as pa_parquet

from kinsight.data.sources.columns import GROUP, parsed_table, wanted_columns
from kinsight.data.sources.label_columns import chosen_columns
from kinsight.data.sources.lines import ListFile, empty_list, find_list, read_lines
from kinsight.data.sources.parquet_images import holds_images, read_parquet_images
from kinsight.data.sources.parsed import Parsed
from kinsight.errors import DataError
from kinsight.specs.data import Csv, Parquet

_DELIMITERS = (",", "\t", ";", "|")


def read_csv(source: Csv, *, labelled: bool) -> Parsed:
    """A CSV file with a header line; commas, tabs, semicolons or bars, found by the header."""
    file = find_list(source.path)
    delimiter, names = _header(file, source.image_column)
    wanted_columns(source, names, file.name, labelled=labelled)
    labels = chosen_columns(source.label_columns or [], names, (source.image_column, source.group_column or GROUP))
    texts = {source.image_column, *(labels if source.label_columns else [source.label_column])} & set(names)
    options = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in texts}, strings_can_be_null=True, null_values=[""]
    )
    try:
        table = pa_csv.read_csv(
            file.path,
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=options,
        )
    except pa.ArrowInvalid as error:
        raise _malformed_csv(file, str(error)) from None
    _refuse_repeated(file, table.column_names)
    if not table.num_rows:
        raise empty_list(file)
    return parsed_table(table, source, _row_place(file, table.num_rows), labelled=labelled)


def read_parquet(source: Parquet, *, labelled: bool) -> Parsed:
    """A Parquet file, or several with the images inside. Labels: integers, texts, lists of these."""
    if holds_images(source):
        return read_parquet_images(source, labelled=labelled)
    file = find_list(source.path)
    try:
        names = pa_parquet.read_schema(file.path).names
        _refuse_repeated(file, names)
        wanted_columns(source, names, file.name, labelled=labelled)
        table = pa_parquet.read_table(file.path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise DataError(
            "data.parquet",
            f"is not a readable Parquet file ({str(error).splitlines()[0]})",
            field=file.name,
            remedy="set the format the file has, or write it anew",
        ) from None
    if not table.num_rows:
        raise empty_list(file)
    return parsed_table(table, source, lambda i: f"{file.name} row {i + 1}", labelled=labelled)


def _refuse_repeated(file: ListFile, names: Sequence[str]) -> None:
    if repeated := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise DataError(
            "data.column",
            f"has {list(names).count(repeated)} columns of the name {repeated!r}",
            field=file.name,
            remedy="give each column a name of its own",
        )


def _header(file: ListFile, image_column: str) -> tuple[str, Sequence[str]]:
    """Delimiter and names. The delimiter is the one under which the image column shows up, else the comma."""
    first = next(read_lines(file, comments=False), None)
    if first is None:
        raise empty_list(file)
    line = first.text_N[0].as_py()
    for delimiter in _DELIMITERS:
        names = next(csv.reader([line], delimiter=delimiter))
        if image_column in names:
            return delimiter, names
    return ",", next(csv.reader([line]))


def _row_place(file: ListFile, num_rows: int) -> Callable[[int], str]:
    """Line of a row where each row is a line; where blank lines or line breaks in cells intervene, its number."""

    def place(i: int) -> str:
        with file.path.open("rb") as stream:
            num_lines = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
        plain = num_lines in (num_rows, num_rows + 1)
        return file.place(i + 2) if plain else f"{file.name} row {i + 1}"

    return place


def _malformed_csv(file: ListFile, message: str) -> DataError:
    if found := re.search(r"Expected (\d+) columns, got (\d+)(?:: (.*))?", message, re.DOTALL):
        row = (found[3] or "").strip()[:80]
        return DataError(
            "data.csv",
            f"a row has {found[2]} cells where the header has {found[1]}: {row!r}",
            field=file.name,
            remedy="quote cells that hold the delimiter, and give each row as many cells as the header",
        )
    return DataError(
        "data.csv", f"cannot be read as CSV ({message.splitlines()[0]})", field=file.name, remedy="mend the file"
    )
