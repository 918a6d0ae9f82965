"""What people give as images and is none: an address that leads nowhere, a text that is no list of addresses."""

import difflib
import re
from collections.abc import Sequence

from kinsight import storage
from kinsight.data.records import Records
from kinsight.data.sources.paths import SUFFIX_PATTERN
from kinsight.errors import DataError

_PATTERN = re.compile(r"[*?\[#]")  # names of many files, pieces of one
_LOOKED_AT = 100  # lines of a list
_LIKE_AN_IMAGE = re.compile(rf".*\.(?:{SUFFIX_PATTERN})(?:#bytes=[0-9]+-[0-9]+)?", re.IGNORECASE)


def require_given(given: Sequence[str]) -> None:
    """Raise DataError for a path that leads nowhere. Addresses elsewhere are asked when they are read."""
    for text in given:
        place = storage.Address.parse(text)
        if place.is_local and not _PATTERN.search(text) and not storage.exists(place):
            raise DataError("data.absent", "no such file or folder", field=text, remedy=_nearest(place))


def _nearest(place: storage.Address) -> str:
    folder = place.local_path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either: mend the path"
    names = sorted(each.name for each in folder.iterdir())
    near = difflib.get_close_matches(place.name, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"look at what {folder} holds, and mend the path"


def refuse_no_list(records: Records) -> None:
    """Raise DataError for a text whose first lines are neither addresses nor images that are there."""
    if "offset" in records.table.column_names:
        return
    uris = records.table["uri"].slice(0, _LOOKED_AT).to_pylist()
    for uri in uris:
        place = storage.Address.parse(uri)
        if not place.is_local or _LIKE_AN_IMAGE.fullmatch(uri) or storage.exists(place):
            return
    if uris:
        raise DataError(
            "data.no-list",
            f"{storage.Address.parse(uris[0]).name!r} is no file: this was read as a list of addresses, one a line",
            field=records.place(0),
            remedy="give images, folders, or lists of their addresses",
        )
