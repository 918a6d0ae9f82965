"""What people give as images and is none: an address that leads nowhere, a text that is no list of addresses."""

import difflib
import glob
import re
from collections.abc import Sequence

from kinsight import storage
from kinsight.data.piece_address import split_piece
from kinsight.data.records import Records
from kinsight.data.sources.paths import SUFFIX_PATTERN
from kinsight.data.tfrecord.shards import WILD, find_shards
from kinsight.errors import DataError

TFRECORDS = (".tfrecord", ".tfrecords")
_OF_SEVERAL = (*TFRECORDS, ".parquet")  # what a pattern may stand for
_LOOKED_AT = 100  # lines of a list
_LIKE_AN_IMAGE = re.compile(rf".*\.(?:{SUFFIX_PATTERN})(?:#bytes=[0-9]+-[0-9]+)?", re.IGNORECASE)


def require_given(given: Sequence[str]) -> None:
    """Raise DataError for a path that leads nowhere, and for a pattern of anything but TFRecords and Parquet files.

    Addresses elsewhere are asked when they are read, but for patterns. Raises StorageError as `storage.exists`.
    """
    for text in given:
        place = storage.Address.parse(text)
        if place.scheme in ("http", "https"):
            continue
        wild = any(mark in place.path for mark in WILD)
        piece = split_piece(text) if place.is_local else None
        file = storage.Address.parse(piece[0]) if piece is not None else place
        if not (place.is_local or wild) or storage.exists(file):  # names may hold these characters, too
            continue
        if wild and file.name.lower().endswith(_OF_SEVERAL):
            find_shards(text)  # where nothing matches, it says what is there instead
        elif wild:
            what, remedy = _no_pattern(file)
            raise DataError("data.pattern", what, field=text if place.is_local else str(place), remedy=remedy)
        else:
            raise DataError("data.absent", "no such file or folder", field=text, remedy=_nearest(file))


def _no_pattern(place: storage.Address) -> tuple[str, str]:
    """What is wrong with a pattern, and the remedy."""
    why = "no such file or folder, and patterns stand for TFRecords and Parquet files alone"
    if not place.is_local:
        return why, "give the folder, or a list of the addresses"
    if next(glob.iglob(place.path), None) is not None:  # noqa: PTH207  as the shell matches: ** is no tree
        return why, "leave out the quotes, so that the shell names the files that match, or give their folder"
    return "no file matches", _nearest(place)


def _nearest(place: storage.Address) -> str:
    folder = place.local_path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either: mend the path"
    names = sorted(each.name for each in folder.iterdir())
    near = [str(folder / name) for name in difflib.get_close_matches(place.name, names, n=3, cutoff=0.6)]
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
