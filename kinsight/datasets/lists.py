"""From a set's own files to lists of images, split as the field reports it."""

import gzip
import struct
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from kinsight import progress, storage
from kinsight.data.labels import natural_key
from kinsight.data.sources.image_list import format_line
from kinsight.errors import DataError, KinsightError, RunError
from kinsight.storage import confine

Rows = list[tuple[str, str]]
"""(path below the set's folder, class name)."""
Lists = dict[str, Rows]
"""List name, such as `train`, -> its rows."""

_IDX_IMAGES, _IDX_LABELS = 2051, 2049
_FASHION = (
    "T-shirt or top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def omniglot(folder: Path, files: dict[str, Path]) -> Lists:
    """Background characters to train on, evaluation characters to test: no alphabet in both."""
    return {
        part: _by_folder(folder, folder / "files" / f"images_{name}" / f"images_{name}", depth=2)
        for part, name in (("train", "background"), ("test", "evaluation"))
    }


def cub200(folder: Path, files: dict[str, Path]) -> Lists:
    """The first 100 species to train on, the others to test (Song et al. 2016)."""
    root = folder / "files" / "CUB_200_2011" / "CUB_200_2011"
    name, label, title = (
        {row[0]: row[1] for row in _table(root / f"{file}.txt", 2)}
        for file in ("images", "image_class_labels", "classes")
    )
    rows = [(name[key], int(label[key])) for key in name]
    return _first_classes(folder, root / "images", rows, lambda number: title[str(number)], 100)


def cars196(folder: Path, files: dict[str, Path]) -> Lists:
    """The first 98 models to train on, the others to test (Song et al. 2016)."""
    root = folder / "files" / "car_ims" / "car_ims"
    rows, names = _cars(files["cars_annos.mat"])
    return _first_classes(folder, root, rows, lambda number: names[number - 1], 98)


def sop(folder: Path, files: dict[str, Path]) -> Lists:
    """The publisher's own split: 11,318 products to train on, 11,316 to test."""
    root = folder / "files" / "Stanford_Online_Products" / "Stanford_Online_Products"
    lists: Lists = {}
    for part in ("train", "test"):
        rows = _table(root / f"Ebay_{part}.txt", 4, skip=1)
        lists[part] = [(_inside(folder, root, row[3]), row[1]) for row in rows]
    return lists


def inshop(folder: Path, files: dict[str, Path]) -> Lists:
    """The publisher's own split: garments to train on, and other garments as queries and gallery."""
    lists: Lists = {"train": [], "query": [], "gallery": []}
    for row in _table(files["list_eval_partition.txt"], 3, skip=2):
        if row[2] not in lists:
            raise _unexpected(files["list_eval_partition.txt"], f"has the part {row[2]!r}")
        lists[row[2]].append((_inside(folder, folder / "files" / "img", row[0]), row[1]))
    return lists


def caltech101(folder: Path, files: dict[str, Path]) -> Lists:
    """The first 51 kinds in order of their names to train on, the other 50 to test; the field has no split by class."""
    root = folder / "files" / "101_ObjectCategories" / "101_ObjectCategories"
    rows = [row for row in _by_folder(folder, root, depth=1) if row[1] != "BACKGROUND_Google"]
    names = sorted({label for _, label in rows}, key=natural_key)
    first = set(names[:51])
    return {
        "train": [row for row in rows if row[1] in first],
        "test": [row for row in rows if row[1] not in first],
    }


def fashion_mnist(folder: Path, files: dict[str, Path]) -> Lists:
    """The publisher's own split, 60,000 and 10,000 pictures of the same ten classes; written as PNG files."""
    lists: Lists = {}
    for part, name in (("train", "train"), ("test", "t10k")):
        pixels_NHW = _idx(files[f"{name}-images-idx3-ubyte.gz"], _IDX_IMAGES)
        label_N = _idx(files[f"{name}-labels-idx1-ubyte.gz"], _IDX_LABELS)
        if len(pixels_NHW) != len(label_N) or (len(label_N) and int(label_N.max()) >= len(_FASHION)):
            raise _unexpected(files[f"{name}-labels-idx1-ubyte.gz"], "does not fit the pictures")
        target = folder / "images" / part
        storage.make_directory(target)
        lists[part] = []
        with progress.task(f"write {part}", len(label_N), "images") as task:
            for number, (pixels_HW, label) in enumerate(zip(pixels_NHW, label_N.tolist(), strict=True)):
                file = target / f"{number:05}.png"
                Image.fromarray(pixels_HW).save(file)
                lists[part].append((f"images/{part}/{file.name}", _FASHION[label]))
                task.advance()
    return lists


MAKERS: dict[str, Callable[[Path, dict[str, Path]], Lists]] = {
    "omniglot": omniglot,
    "fashion-mnist": fashion_mnist,
    "cub200": cub200,
    "cars196": cars196,
    "sop": sop,
    "inshop": inshop,
    "caltech101": caltech101,
}


def write_list(folder: Path, name: str, rows: Rows) -> None:
    """`<name>.txt`, paths relative to it. Raises DataError where an image is absent."""
    for path, _ in rows:
        if not (folder / path).is_file():
            raise _unexpected(folder / path, "is named by the set's own list, but is not in its archive")
    if not rows:
        raise _unexpected(folder, f"has no image for {name}")
    storage.write_text(folder / f"{name}.txt", "".join(f"{format_line(path, [label])}\n" for path, label in rows))


def _by_folder(folder: Path, root: Path, *, depth: int) -> Rows:
    """Images below `root`, whose classes are the `depth` directories above them."""
    rows: Rows = []
    for entry in storage.list_files(root):
        parts = PurePosixPath(entry.relative).parts
        hidden = any(part.startswith(".") for part in parts)
        if len(parts) == depth + 1 and not hidden and entry.relative.lower().endswith((".png", ".jpg", ".jpeg")):
            rows.append((_relative(folder, root / entry.relative), "/".join(parts[:-1])))
    return sorted(rows, key=lambda row: natural_key(row[0]))


def _first_classes(
    folder: Path, root: Path, rows: Iterable[tuple[str, int]], name: Callable[[int], str], first: int
) -> Lists:
    lists: Lists = {"train": [], "test": []}
    for path, number in rows:
        lists["train" if number <= first else "test"].append((_inside(folder, root, path), name(number)))
    return lists


def _inside(folder: Path, root: Path, relative: str) -> str:
    """A path that a set's own list names, relative to the set's folder; it may not lead out of it."""
    return _relative(folder, confine(root, relative))


def _relative(folder: Path, path: Path) -> str:
    return path.resolve().relative_to(folder.resolve()).as_posix()


def _table(path: Path, columns: int, *, skip: int = 0) -> list[tuple[str, ...]]:
    """Rows of words separated by blanks; the last column may hold blanks."""
    lines = storage.read_text(path).splitlines()[skip:]
    rows = [tuple(line.split(None, columns - 1)) for line in lines if line.strip()]
    for number, row in enumerate(rows):
        if len(row) != columns:
            raise _unexpected(path, f"line {number + skip + 1} has {len(row)} columns, not {columns}")
    return [tuple(word.strip() for word in row) for row in rows]


def _idx(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes, as gzip, of the size that its header says."""
    dimensions = 3 if magic == _IDX_IMAGES else 1
    try:
        with gzip.open(path) as stream:
            found, *shape = struct.unpack(f">{1 + dimensions}i", stream.read(4 * (1 + dimensions)))
            count = int(np.prod(shape, dtype=np.int64))
            if found != magic or min(shape) < 0 or count > 2**30:
                raise _unexpected(path, f"begins with {found} and {shape}")
            data = stream.read(count + 1)
    except (OSError, EOFError, struct.error) as error:
        raise _unexpected(path, f"is not whole ({error})") from None
    if len(data) != count:
        raise _unexpected(path, f"holds {len(data)} bytes, its header says {count}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _cars(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """(file name, class number from 1) of every image, and the class names."""
    try:
        from scipy.io import loadmat  # a MATLAB file; nothing else needs scipy
    except ImportError:
        raise RunError("datasets.scipy", "cars_annos.mat needs scipy to be read", remedy="install scipy") from None
    try:
        found: dict[str, Any] = loadmat(str(path), squeeze_me=True)
        rows = [
            (PurePosixPath(str(name)).name, int(label))
            for name, label in zip(found["annotations"]["relative_im_path"], found["annotations"]["class"], strict=True)
        ]
        names = [str(name) for name in found["class_names"]]
    except KinsightError:
        raise
    except Exception as error:  # whatever the reader raises on a damaged file
        raise _unexpected(path, f"is not the annotations' file ({error})") from None
    if any(not 1 <= number <= len(names) for _, number in rows):
        raise _unexpected(path, "has a class without a name")
    return rows, names


def _unexpected(path: Path, what: str) -> DataError:
    return DataError("datasets.layout", what, field=str(path), remedy="fetch the archive again; its layout is unknown")
