"""One file of the output: its images read, looked at, shrunk where needed, written. Runs in worker processes."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from kinsight import storage
from kinsight.converting.forms import Item, write
from kinsight.converting.images import prepare
from kinsight.converting.plan import Part
from kinsight.data import Records
from kinsight.data.decode import BrokenImage
from kinsight.data.fetching import fetches
from kinsight.data.piece_address import split_piece
from kinsight.data.reading import REMOTE_READS, any_remote, read_image, shown
from kinsight.specs.convert import ConvertSpec, ToImageList
from kinsight.storage import Address

_ALONGSIDE = 32  # images asked for at once from behind a network


class Note(NamedTuple):
    """What became of a part. places: of its images with the names of their labels, where the form lists them. broken:
    address and reason.
    """

    rows: int
    shrunk: int
    places: list[tuple[str, list[str]]]
    broken: list[tuple[str, str]]


def note_address(folder: Address, prefix: str, part: Part) -> Address:
    """Where the note of a finished part lies until the job is done."""
    return folder.child(f".{prefix}{part.name}.json")


def do_part(spec: ConvertSpec, records: Records, part: Part) -> Note:
    """Write the part, and a note that it is done. Raises StorageError."""
    folder, counts = Address.parse(spec.output), _Counts()
    with ThreadPoolExecutor(REMOTE_READS) as pool:
        items = _items(spec, records, part.row_N.tolist(), pool, counts)
        places = []
        if first := list(islice(items, 1)):  # a part without a single image is no file
            places = write(spec.to, folder, part.name, spec.prefix, _behind(first, items))
    note = Note(counts.rows, counts.shrunk, places, counts.broken)
    storage.write_text(note_address(folder, spec.prefix, part), json.dumps(note._asdict(), ensure_ascii=False))
    return note


@dataclass
class _Counts:
    """What became of the images so far."""

    rows: int = 0
    shrunk: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)


def _items(
    spec: ConvertSpec, records: Records, rows: list[int], pool: ThreadPoolExecutor, counts: _Counts
) -> Iterator[Item]:
    """The images that can be used, one after the other, so that none is held longer than it takes to write it."""
    for row, fetch in zip(rows, _data(records, rows, pool), strict=True):
        uri = records.uri(row)
        try:
            image = prepare(fetch(), uri, spec.max_image_size, spec.quality)
        except BrokenImage as error:
            counts.broken.append((shown(uri), error.reason))
            continue
        counts.rows += 1
        counts.shrunk += image.shrunk
        labels = records.labels(row)
        if (kept := _kept(spec, uri) if not image.shrunk else None) is not None:
            image = image._replace(data=b"")
        yield Item(row, image, labels, [records.class_names[label] for label in labels], _name(uri), kept)


def _behind(first: list[Item], items: Iterator[Item]) -> Iterator[Item]:
    yield first.pop()
    yield from items


def read_note(text: str) -> Note:
    """What `do_part` noted."""
    found: dict[str, Any] = json.loads(text)
    pairs = [(place, names) for place, names in found["places"]]
    return Note(found["rows"], found["shrunk"], pairs, [(uri, reason) for uri, reason in found["broken"]])


def _data(records: Records, rows: list[int], pool: ThreadPoolExecutor) -> Iterator[Callable[[], bytes]]:
    """For each image a function that gives its bytes; remote ones are asked for ahead."""
    if not any_remote(records):
        yield from ((lambda row=row: read_image(records.uri(row))) for row in rows)
        return
    for start in range(0, len(rows), _ALONGSIDE):
        yield from fetches([records.uri(row) for row in rows[start : start + _ALONGSIDE]], pool)


def _kept(spec: ConvertSpec, uri: str) -> str | None:
    """The address under which a list may name the image where it is."""
    in_place = isinstance(spec.to, ToImageList) and not spec.to.copy_images and split_piece(uri) is None
    return uri if in_place else None


def _name(uri: str) -> str:
    piece = split_piece(uri)
    name = Address.parse(uri if piece is None else piece[0]).name
    return os.fsencode(name).decode("utf-8", "replace")
