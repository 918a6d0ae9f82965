"""Images inside larger files as addresses: `FILE#bytes=FIRST-LAST`, both ends included, as HTTP's Range has them.

One text that says all lets lists, tables, indexes and pages name such images like any other.
"""

import re

_PIECE = re.compile(r"^(.*)#bytes=([0-9]{1,18})-([0-9]{1,18})$", re.DOTALL)


def piece_address(file: str, offset: int, length: int) -> str:
    """The address of `length` bytes from `offset` on; of none if length is 0."""
    return f"{file}#bytes={offset}-{offset + length - 1}" if length else f"{file}#bytes=1-0"


def split_piece(uri: str) -> tuple[str, int, int] | None:
    """File, offset and length of an image inside a file; None for an address of a whole file."""
    if uri[-1:].isdigit() and (found := _PIECE.match(uri)):
        first, last = int(found[2]), int(found[3])
        return found[1], first, max(0, last + 1 - first)
    return None
