"""An early look whether the images are where the records say, before anything is trained on them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kinsight import storage
from kinsight.data.piece_address import split_piece
from kinsight.data.records import Records
from kinsight.data.sources.paths import root_of
from kinsight.errors import DataError
from kinsight.specs.data import Folder, Itag, Source, TFRecord, Voc

_THREADS = 16


def missing_images(records: Records, sample: int = 64) -> tuple[np.ndarray, int]:
    """Indices of images that are not there, among the first and `sample` - 1 evenly spread ones; how many were asked.

    Raises StorageError if an address does not answer or refuses.
    """
    asked = np.unique(np.linspace(0, len(records) - 1, min(sample, len(records))).astype(np.int64))
    with ThreadPoolExecutor(_THREADS) as pool:
        there = list(pool.map(lambda i: storage.stat(_file(records.uri(i))) is not None, asked))
    return asked[~np.array(there, bool)], len(asked)


def _file(uri: str) -> str:
    piece = split_piece(uri)
    return uri if piece is None else piece[0]


def require_images(
    records: Records, source: Source, *, field: str = "data.train", sample: int = 64, max_missing: float = 0.25
) -> None:
    """Raise DataError if more than `max_missing` (a share) of the sampled images are not there.

    field: the setting that holds `source`. Single missing images are left to the loader, which counts and names them.
    """
    missing, num_asked = missing_images(records, sample)
    if len(missing) <= max_missing * num_asked:
        return
    first = int(missing[0])
    uri = records.uri(first)
    raise DataError(
        "data.images-missing",
        f"{len(missing)} of {num_asked} images looked up are not there; the first is {uri}{_rooted(source, uri)}",
        field=records.place(first),
        remedy=_remedy(source, uri, field),
    )


def _rooted(source: Source, uri: str) -> str:
    if isinstance(source, Folder | Voc | TFRecord) or split_piece(uri) is not None:
        return ""
    root = root_of(None if isinstance(source, Itag) else source.root, source.path)
    if not uri.startswith(root.child("x").uri[:-1]):
        return " (an absolute path in the list)"
    origin = "the list's folder" if isinstance(source, Itag) or source.root is None else "root"
    return f" (relative paths start from {origin}, {root})"


def _remedy(source: Source, uri: str, field: str) -> str:
    if "\\" in uri:
        return "write the paths with `/` instead of `\\`"
    if isinstance(source, Folder | Itag | Voc | TFRecord):
        return "check that the images were not moved or removed"
    return f"set {field}.root to the address that the paths in the list start from"
