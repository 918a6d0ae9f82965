"""The forms images can be written in: each takes a file's images one by one, writes, and says where they went."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import storage
from kinsight.converting.images import Prepared
from kinsight.data.piece_address import piece_address
from kinsight.data.tfrecord import encode_example, frame
from kinsight.specs.convert import Target, ToImageList, ToParquet, ToShards, ToTFRecord
from kinsight.storage import Address

_TAR_BLOCK = 512
_GROUP_BYTES = 64 << 20  # of images in a row group of Parquet, which is held in memory
_PARQUET = pa.schema(
    [
        pa.field("image", pa.binary()),
        pa.field("format", pa.string()),
        pa.field("label", pa.list_(pa.string())),
        pa.field("name", pa.string()),
    ]
)
Listed = list[tuple[str, list[str]]]
"""Where images can be read from, each with the names of its labels."""


class Item(NamedTuple):
    """An image and what it shows. row: its number in the source. name: of its file there. kept: its address, if it may
    stay where it is: then its bytes are gone.
    """

    row: int
    image: Prepared
    labels: list[int]
    names: list[str]
    name: str
    kept: str | None = None


def write(to: Target, folder: Address, name: str, prefix: str, items: Iterator[Item]) -> Listed:
    """Write the file `prefix + name`, which appears whole or not at all; no more images than needed are held at once.

    Returns where each image can be read from, below `folder` or as a whole address, for forms with a list of all
    images; else nothing.
    """
    name = prefix + name
    match to:
        case ToTFRecord():
            return _write_tfrecord(to, folder, name, items)
        case ToParquet():
            return _write_parquet(folder, name, items)
        case ToShards():
            return _write_tar(folder, name, items)
        case ToImageList():
            return _write_images(folder, f"{prefix}images", items)
        case _:
            assert_never(to)


def _write_tfrecord(to: ToTFRecord, folder: Address, name: str, items: Iterable[Item]) -> Listed:
    spans, at = [], 0
    with storage.open_write(folder.child(name)) as file:
        for item in items:
            record = frame(encode_example(_features(item, to.label_offset)))
            file.write(record)
            spans.append((at, len(record)))
            at += len(record)
    storage.write_text(folder.child(f"{name}.idx"), "".join(f"{start} {length}\n" for start, length in spans))
    return []


def _features(item: Item, label_offset: int) -> dict[str, bytes | str | Sequence[int] | Sequence[str]]:
    image = item.image
    return {
        "image/encoded": image.data,
        "image/format": image.format,
        "image/width": [image.width],
        "image/height": [image.height],
        "image/filename": item.name,
        "image/class/label": [label + label_offset for label in item.labels],
        **({"image/class/text": item.names} if item.names else {}),
    }


def _write_parquet(folder: Address, name: str, items: Iterable[Item]) -> Listed:
    # Encoded images do not shrink any further, and in the plain each is one range of the file.
    plain = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
    with storage.open_write(folder.child(name)) as file, pq.ParquetWriter(file, _PARQUET, **plain) as writer:
        group, size = [], 0
        for item in items:
            group.append(item)
            size += len(item.image.data)
            if size >= _GROUP_BYTES:
                writer.write_table(_table_of(group))
                group, size = [], 0
        if group:
            writer.write_table(_table_of(group))
    return []


def _table_of(items: Sequence[Item]) -> pa.Table:
    columns = {
        "image": [item.image.data for item in items],
        "format": [item.image.format for item in items],
        "label": [item.names for item in items],
        "name": [item.name for item in items],
    }
    return pa.table(columns, schema=_PARQUET)


def _write_tar(folder: Address, name: str, items: Iterable[Item]) -> Listed:
    places: Listed = []
    with (
        storage.open_write(folder.child(name)) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for item in items:
            key = f"{item.row:09d}"
            places.append((piece_address(name, tar.offset + _TAR_BLOCK, len(item.image.data)), item.names))
            _add(tar, f"{key}.{item.image.ending}", item.image.data)
            if len(item.labels) == 1:
                _add(tar, f"{key}.cls", str(item.labels[0]).encode())
            about = {"labels": item.labels, "names": item.names, "file": item.name}
            _add(tar, f"{key}.json", json.dumps(about, ensure_ascii=False).encode())
    return places


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)  # of no time and no user, so that equal images make equal files
    about.size, about.mode = len(data), 0o644
    tar.addfile(about, io.BytesIO(data))


def _write_images(folder: Address, images: str, items: Iterable[Item]) -> Listed:
    places: Listed = []
    for item in items:
        place = item.kept
        if place is None:
            place = f"{images}/{item.row:09d}.{item.image.ending}"
            storage.write_bytes(folder.child(place), item.image.data)
        places.append((place, item.names))
    return places
