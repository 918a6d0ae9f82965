"""A folder of class folders: an image's class is its directory relative to the folder."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from kinsight import storage
from kinsight.data.labels import natural_key
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.data.sources.paths import IMAGE_SUFFIXES
from kinsight.errors import DataError
from kinsight.specs.data import Folder
from kinsight.storage import Address

_NEVER = ("__MACOSX",)  # resource forks that macOS puts into archives, with the images' names


def read_folder(source: Folder, *, labelled: bool) -> Parsed:
    """The images below the folder, classes and images in natural order.

    Hidden files and directories are skipped, and names without an image suffix are skipped and counted.
    labelled: an image outside any class folder is an error. Raises DataError; StorageError if it cannot be listed.
    """
    address = Address.parse(source.path)
    found = _listed(address)
    visible = [relative for relative in found if not _is_hidden(relative)]
    images = [relative for relative in visible if _suffix(relative) in IMAGE_SUFFIXES]
    if not images:
        raise DataError(
            "data.folder-empty",
            f"holds no image ({len(found)} files, none of them named like one)",
            field=str(address),
            remedy="name the folder that holds one directory of images per class",
        )
    images = _sorted(images)
    classes = [relative.rpartition("/")[0] for relative in images]
    if labelled and not all(classes):
        raise _outside(address, images, classes)
    class_M = strings([pa.array([name for name in classes if name], pa.string())])
    return Parsed(
        strings([_names(images, address)]),
        class_M,
        np.array([bool(name) for name in classes], np.int32),
        place=lambda i: str(address.child(images[i])),
        kind="name",
        notes=_skipped(visible, len(images)),
    )


def _listed(address: Address) -> list[str]:
    if not storage.is_directory(address):
        if storage.stat(address) is not None:
            raise DataError(
                "data.folder-is-file",
                "is a file where a folder of class folders is needed",
                field=str(address),
                remedy="set the format of the file: image-list, itag, sop, csv or parquet",
            )
        raise DataError(
            "data.folder-missing", "there is no such folder", field=str(address), remedy="check the address"
        )
    return [entry.relative for entry in storage.list_files(address)]


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") or part in _NEVER for part in relative.split("/"))


def _suffix(relative: str) -> str:
    return relative.rpartition("/")[2].rpartition(".")[2].lower()


def _sorted(images: Sequence[str]) -> list[str]:
    """Natural order, directory by directory: equal on every machine and address."""
    directory_key = {directory: natural_key(directory) for directory in {path.rpartition("/")[0] for path in images}}

    def key(path: str) -> tuple[object, ...]:
        directory, _, name = path.rpartition("/")
        return directory_key[directory], natural_key(name)

    return sorted(images, key=key)


def _names(images: Sequence[str], address: Address) -> pa.Array:
    try:
        return pa.array(images, pa.string())
    except UnicodeEncodeError:
        bad = next(name for name in images if any("\ud800" <= letter <= "\udfff" for letter in name))
        raise DataError(
            "data.folder-name", f"the name {bad!r} is not UTF-8", field=str(address), remedy="rename it (convmv does)"
        ) from None


def _outside(address: Address, images: Sequence[str], classes: Sequence[str]) -> DataError:
    stray = images[classes.index("")]
    all_stray = not any(classes)
    return DataError(
        "data.folder-class",
        "all images lie directly in the folder, so they have no class"
        if all_stray
        else f"{stray} lies outside the class folders",
        field=str(address),
        remedy="sort the images into one directory per class"
        if all_stray
        else "move it into the directory of its class, or out of the folder",
    )


def _skipped(visible: Sequence[str], num_images: int) -> tuple[str, ...]:
    if len(visible) == num_images:
        return ()
    suffixes = Counter(_suffix(relative) for relative in visible if _suffix(relative) not in IMAGE_SUFFIXES)
    named = ", ".join(f"{count} .{suffix}" for suffix, count in suffixes.most_common(3))
    return (f"{len(visible) - num_images} files are not named like images and were skipped ({named})",)
