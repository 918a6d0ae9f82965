"""Pascal VOC's annotations: an XML file for each image, with its objects.

As in VOC's own classification task, a class is unknown, neither shown nor absent, where all its objects are difficult.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa

from kinsight import storage
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.errors import DataError, StorageError
from kinsight.specs.data import Voc
from kinsight.storage import Address

_THREADS = 16
_XML = ".xml"
_ENCODING = re.compile(rb"\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)")
_CHINESE = ("gb2312", "gbk")  # what says so often holds letters of their successor
_ENTITIES = ("defines entities, which annotations have no use for", "remove them")


class _Image(NamedTuple):
    file: str
    shown: list[str]
    unknown: list[str]


def read_voc(source: Voc, *, labelled: bool) -> Parsed:
    """The annotated images in the order of their names. Raises DataError naming the file that is wrong."""
    folder = Address.parse(source.path).child(source.annotations)
    names = _names(source, folder)

    def read(name: str) -> _Image:
        return _read(folder.child(name + _XML), name)

    with ThreadPoolExecutor(_THREADS) as pool:
        images = list(pool.map(read, names))

    def place(i: int) -> str:
        return str(folder.child(names[i] + _XML))

    if labelled and (bare := next((i for i, image in enumerate(images) if not image.shown), None)) is not None:
        raise DataError(
            "data.label-missing",
            "shows no object, or only difficult ones",
            field=place(bare),
            remedy="leave it out, or train with several labels (task: multilabel), where images may show none",
        )
    return Parsed(
        strings([pa.array([f"{source.images}/{image.file}" for image in images], pa.string())]),
        strings([pa.array([name for image in images for name in image.shown], pa.string())]),
        np.array([len(image.shown) for image in images], np.int32),
        place=place,
        kind="name",
        unknown_M=strings([pa.array([name for image in images for name in image.unknown], pa.string())]),
        unknown_count_N=np.array([len(image.unknown) for image in images], np.int32),
    )


def _names(source: Voc, folder: Address) -> Sequence[str]:
    if source.split is not None:
        place = Address.parse(source.path).child(f"ImageSets/Main/{source.split}.txt")
        try:
            found = [line.split()[0] for line in storage.read_text(place).splitlines() if line.strip()]
        except StorageError as error:
            if error.code != "storage.not-found":
                raise
            raise _bad(
                str(place), "there is no such list", "set split to the name of a list in ImageSets/Main"
            ) from None
    else:
        try:
            entries = storage.list_files(folder, recursive=False)
        except StorageError as error:
            if error.code not in ("storage.not-found", "storage.not-a-directory"):
                raise
            remedy = "name the folder that holds Annotations and JPEGImages, or set annotations and images"
            raise _bad(str(folder), "there is no such folder", remedy) from None
        found = [entry.relative.removesuffix(_XML) for entry in entries if entry.relative.endswith(_XML)]
    if not found:
        raise _bad(source.path, "names no image", "name a folder with annotations in it")
    return found


def _read(place: Address, name: str) -> _Image:
    try:
        data = storage.read_bytes(place)
    except StorageError as error:
        if error.code != "storage.not-found":
            raise
        raise _bad(str(place), "there is no such annotation", "remove the image from the list") from None
    root = _parsed(data, place)
    plain: dict[str, bool] = {}  # class -> whether one of its objects is not difficult
    for item in root.iter("object"):
        label = (item.findtext("name") or "").strip()
        if not label:
            raise _bad(str(place), "an object has no name", "name its class")
        clear = (item.findtext("difficult") or "0").strip() in ("", "0")
        plain[label] = plain.get(label, False) or clear
    file = (root.findtext("filename") or "").strip() or f"{name}.jpg"
    shown = [label for label, clear in plain.items() if clear]
    return _Image(file, shown, [label for label, clear in plain.items() if not clear])


def _parsed(data: bytes, place: Address) -> ElementTree.Element:
    """The root of the file. Raises DataError."""
    if b"<!ENTITY" in data.replace(b"\0", b""):
        raise _bad(str(place), *_ENTITIES)
    try:
        try:
            return ElementTree.fromstring(data)
        except (LookupError, ValueError):  # the parser knows no encoding of several bytes a letter but UTF's
            text = _decoded(data, place)
            if "<!ENTITY" in text:
                raise _bad(str(place), *_ENTITIES) from None
            return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise _bad(str(place), f"is no XML ({error})", "mend or remove it") from None


def _decoded(data: bytes, place: Address) -> str:
    """The text, by the encoding that the file says it has."""
    found = _ENCODING.match(data)
    name = found[1].decode("ascii") if found else "utf-8"
    try:
        text = data.decode("gb18030" if name.lower() in _CHINESE else name)
        text.encode()  # some codecs give halves of letters
    except (LookupError, ValueError):
        what = f"says that it is encoded as {name}, and cannot be read so"
        raise _bad(str(place), what, "write it as UTF-8") from None
    return text


def _bad(where: str, what: str, remedy: str) -> DataError:
    return DataError("data.voc", what, field=where, remedy=remedy)
