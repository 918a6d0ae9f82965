"""Stanford Online Products' lists: `image_id class_id super_class_id path` under a header line."""

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.sources.lines import Lines, ListFile, empty_list, find_list, read_lines
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.data.sources.sniff import is_sop_header, is_sop_row, text_format
from kinsight.errors import DataError
from kinsight.specs.data import Sop

_ROW = r"^(?P<image>[0-9]{1,9})\s+(?P<label>[0-9]{1,9})\s+(?P<group>[0-9]{1,9})\s+(?P<path>.+)$"


def read_sop(source: Sop) -> Parsed:
    """class_id becomes the label (an identifier: the official test list starts at 11319), super_class_id the group."""
    file = find_list(source.path)
    blocks: list[pa.StructArray] = []
    line_blocks: list[np.ndarray] = []
    for number, lines in enumerate(read_lines(file, comments=False)):
        text_N, line_N = lines.text_N, lines.line_N
        if number == 0:
            skip = _header_lines(file, lines)
            text_N, line_N = text_N[skip:], line_N[skip:]
        rows = pc.extract_regex(text_N, _ROW)
        if rows.null_count:
            at = int(np.flatnonzero(rows.is_null().to_numpy(zero_copy_only=False))[0])
            raise _malformed(file, int(line_N[at]), text_N[at].as_py())
        blocks.append(rows)
        line_blocks.append(line_N)
    if not sum(map(len, blocks)):
        raise empty_list(file)
    line_all_N = np.concatenate(line_blocks)
    return Parsed(
        strings([rows.field("path") for rows in blocks]),
        strings([rows.field("label") for rows in blocks]),
        np.ones(len(line_all_N), np.int32),
        place=lambda i: file.place(int(line_all_N[i])),
        kind="id",
        line_N=line_all_N,
        group_N=strings([rows.field("group") for rows in blocks]).cast(pa.int32()),
        extra={"image_id": strings([rows.field("image") for rows in blocks]).cast(pa.int32())},
    )


def _header_lines(file: ListFile, lines: Lines) -> int:
    first = lines.text_N[0].as_py()
    if is_sop_header(first):
        return 1
    if is_sop_row(first):
        return 0
    kind = text_format(first) or "image-list"
    raise DataError(
        "data.format",
        f"{first[:80]!r} is not `image_id class_id super_class_id path`",
        field=file.place(int(lines.line_N[0])),
        remedy=f"set `format: {kind}`, or name Ebay_train.txt or Ebay_test.txt",
    )


def _malformed(file: ListFile, line: int, text: str) -> DataError:
    return DataError(
        "data.list-line",
        f"{text[:80]!r} is not three integers and a path",
        field=file.place(line),
        remedy="write `image_id class_id super_class_id path`",
    )
