"""What a file seems to be, to tell a user which format it has instead of the one that was set."""

import json
import re

_MAGIC = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"GIF8", "a GIF image"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
)
_SOP_HEADER = re.compile(r"image_id\s+class_id\s+super_class_id\s+path", re.IGNORECASE)
_SOP_ROW = re.compile(r"\d+\s+\d+\s+\d+\s+\S.*")


def binary_kind(head: bytes) -> str | None:
    """What a file that begins with `head` is, if it is not text."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "binary" if b"\0" in head[:4096] else None


def text_format(line: str) -> str | None:
    """The `format` that a file whose first line is `line` most likely has; None if no other than a list shows."""
    if _SOP_HEADER.fullmatch(line):
        return "sop"
    if line.startswith("{"):
        try:
            return "itag" if isinstance(json.loads(line), dict) else None
        except json.JSONDecodeError:
            return None
    return None


def is_sop_header(line: str) -> bool:
    return _SOP_HEADER.fullmatch(line) is not None


def is_sop_row(line: str) -> bool:
    return _SOP_ROW.fullmatch(line) is not None
