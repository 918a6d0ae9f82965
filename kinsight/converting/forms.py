"""The forms images can be written in: each takes a file's worth of images and says where they went."""

import io
import json
import tarfile
from collections.abc import Sequence
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


class Item(NamedTuple):
    """An image and what it shows. row: its number in the source. name: of its file there. kept: its address, if it may
    stay where it is.
    """

    row: int
    image: Prepared
    labels: list[int]
    names: list[str]
    name: str
    kept: str | None = None


def write(to: Target, folder: Address, name: str, prefix: str, items: Sequence[Item]) -> list[str]:
    """Write the file `prefix + name`, which appears whole or not at all.

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


def _write_tfrecord(to: ToTFRecord, folder: Address, name: str, items: Sequence[Item]) -> list[str]:
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


def _write_parquet(folder: Address, name: str, items: Sequence[Item]) -> list[str]:
    table = pa.table(
        {
            "image": pa.array([item.image.data for item in items], pa.binary()),
            "format": pa.array([item.image.format for item in items], pa.string()),
            "label": pa.array([item.names for item in items], pa.list_(pa.string())),
            "name": pa.array([item.name for item in items], pa.string()),
        }
    )
    with storage.open_write(folder.child(name)) as file:
        # Encoded images do not shrink any further, and in the plain each is one range of the file.
        pq.write_table(table, file, compression="NONE", use_dictionary=False, write_statistics=False)
    return []


def _write_tar(folder: Address, name: str, items: Sequence[Item]) -> list[str]:
    places = []
    with (
        storage.open_write(folder.child(name)) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for item in items:
            key = f"{item.row:09d}"
            places.append(piece_address(name, tar.offset + _TAR_BLOCK, len(item.image.data)))
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


def _write_images(folder: Address, images: str, items: Sequence[Item]) -> list[str]:
    places = []
    for item in items:
        if item.kept is not None:
            places.append(item.kept)
            continue
        place = f"{images}/{item.row:09d}.{item.image.ending}"
        storage.write_bytes(folder.child(place), item.image.data)
        places.append(place)
    return places
