"""COCO's annotations: `images`, `categories`, `annotations` with `image_id` and `category_id`."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from kinsight.data.sources.lines import find_list
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.errors import DataError
from kinsight.specs.data import Coco

_PARTS = ("images", "annotations", "categories")


def read_coco(source: Coco, *, labelled: bool) -> Parsed:
    """Images in the file's order; classes are the categories in the order of their numbers.

    Raises DataError naming the image or annotation that is wrong.
    """
    file = find_list(source.path)
    found = _load(file.path.read_bytes(), file.name)
    name_of = _names(found["categories"], file.name)
    row_of = _rows(found["images"], file.name)
    order = {number: rank for rank, number in enumerate(sorted(name_of))}
    pairs = np.array(
        [_pair(annotation, n, row_of, order, file.name) for n, annotation in enumerate(found["annotations"])], np.int64
    ).reshape(-1, 2)
    pair_M = np.unique(pairs[:, 0] * len(order) + pairs[:, 1]) if len(order) else np.zeros(0, np.int64)
    row_M, class_M = np.divmod(pair_M, max(1, len(order)))
    count_N = np.bincount(row_M, minlength=len(row_of)).astype(np.int32)
    names = [name_of[number] for number in order]
    uris = [image["file_name"] for image in found["images"]]

    def place(i: int) -> str:
        return f"{file.name}: image {uris[i]}"

    if labelled and (bare := np.flatnonzero(count_N == 0)).size:
        raise DataError(
            "data.label-missing",
            f"has no annotation ({bare.size} such images)",
            field=place(int(bare[0])),
            remedy="remove them, or train with several labels (task: multilabel), where images may show none",
        )
    return Parsed(
        strings([pa.array(uris, pa.string())]),
        pa.chunked_array([pa.array(names, pa.string()).take(pa.array(class_M))]),
        count_N,
        place=place,
        kind="name",
        classes=names,
    )


def _load(data: bytes, name: str) -> dict[str, list[dict[str, Any]]]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _bad(name, f"is no JSON ({error})", "name the file of annotations, whole") from None
    lacking = [part for part in _PARTS if not isinstance(found, dict) or not isinstance(found.get(part), list)]
    if lacking:
        raise _bad(name, f"has no list {lacking[0]!r}", f"a file of COCO's has the lists {', '.join(_PARTS)}")
    if not found["images"]:
        raise _bad(name, "names no image", "name a file with images")
    for part in _PARTS:
        if (odd := next((n for n, entry in enumerate(found[part]) if not isinstance(entry, dict)), None)) is not None:
            raise _bad(name, f"entry {odd} of {part!r} is no object with names and values", "mend or remove it")
    return found


def _names(categories: list[dict[str, Any]], name: str) -> dict[int, str]:
    name_of: dict[int, str] = {}
    for category in categories:
        number, text = category.get("id"), category.get("name")
        if not isinstance(number, int) or not isinstance(text, str) or number in name_of or text in name_of.values():
            raise _bad(
                name, f"category {category}: its id or name is missing, or another's", "number and name each once"
            )
        name_of[number] = text
    return name_of


def _rows(images: list[dict[str, Any]], name: str) -> dict[Any, int]:
    row_of: dict[Any, int] = {}
    for row, image in enumerate(images):
        if not _is_id(image.get("id")) or not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise _bad(name, f"image {row} lacks its id or file_name", "complete it")
        if image["id"] in row_of:
            raise _bad(name, f"{image['id']} is the id of two images", "give each its own")
        row_of[image["id"]] = row
    return row_of


def _pair(
    annotation: dict[str, Any], number: int, row_of: dict[Any, int], order: dict[int, int], name: str
) -> tuple[int, int]:
    for key, known, what in (("image_id", row_of, "image"), ("category_id", order, "category")):
        if not _is_id(annotation.get(key)) or annotation[key] not in known:
            raise _bad(name, f"annotation {number}: there is no {what} {annotation.get(key)!r}", "mend or remove it")
    return row_of[annotation["image_id"]], order[annotation["category_id"]]


def _is_id(value: object) -> bool:
    return isinstance(value, int | float | str)


def _bad(name: str, what: str, remedy: str) -> DataError:
    return DataError("data.coco", what, field=name, remedy=remedy)
