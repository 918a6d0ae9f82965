"""Class names by number: TensorFlow's pbtxt, JSON, or text."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kinsight import storage
from kinsight.data.class_names import read_class_names
from kinsight.errors import DataError, StorageError

_NUMBERED = re.compile(r"\s*([0-9]{1,9})\s*(?:[:,\t=]|\s)\s*(\S.*?)\s*")
_SHOWN_GAPS = 8
_FIELD = descriptor_pb2.FieldDescriptorProto


def read_label_map(address: str, first: int) -> dict[int, str]:
    """Name of each number. first: the number of the first name where names stand alone.

    Raises DataError for a map that is absent, unreadable, or gives a number or a name twice.
    """
    try:
        text = storage.read_text(address)
    except StorageError as error:
        if error.code != "storage.not-found":
            raise
        raise _bad(address, error.message, "give the address of the label map") from None
    if text.lstrip()[:1] in "{[" and (found := _from_json(text, address, first)) is not None:
        return _checked(found, address)
    if re.search(r"\bitem\s*:?\s*[{<]", text):
        return _checked(_from_pbtxt(text, address), address)
    lines = [line for line in text.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        return _checked([(int(found[1]), found[2]) for found in numbered if found], address)
    return dict(enumerate(read_class_names(address), first))


def own_classes(name_of: Mapping[int, str], num_classes: int | None, where: str) -> tuple[list[str], str]:
    """Names in the order of their classes, and a remark on numbers that are missing (empty: none is).

    Classes are numbered by rank, so a gap shifts those behind it, unless `num_classes` says that the gaps count.
    Raises DataError where the names are more than `num_classes`.
    """
    numbers = sorted(name_of)
    names = [name_of[number] for number in numbers]
    start = 0 if num_classes is not None and num_classes > numbers[-1] else min(1, numbers[0])
    gaps = sorted(set(range(start, numbers[-1])) - set(numbers))
    if num_classes is None or num_classes == len(names):
        return names, f"no name for {_shown(gaps)}: the numbers behind move down" if gaps else ""
    if num_classes < len(names) or numbers[-1] - start >= num_classes:
        raise DataError(
            "data.num-classes",
            f"names {len(names)} classes, with numbers from {numbers[0]} to {numbers[-1]}"
            + (f" (none for {_shown(gaps)})" if gaps else "")
            + f", but num_classes={num_classes}",
            field=where,
            remedy=f"set num_classes to {len(names)}, or leave it out",
        )
    every = [name_of.get(number, f"(unused {number})") for number in range(start, start + num_classes)]
    return every, f"no name for {_shown(gaps)}: these classes stay unused" if gaps else ""


def _shown(gaps: list[int]) -> str:
    return ", ".join(map(str, gaps[:_SHOWN_GAPS])) + (f" and {len(gaps) - _SHOWN_GAPS} more" if len(gaps) > 8 else "")


def _from_json(text: str, address: str, first: int) -> list[tuple[int, str]] | None:
    """Number and name; None for `[a, b]`, which is no JSON but a list of names."""
    try:
        found = json.loads(text)
    except ValueError:
        if text.lstrip().startswith("["):
            return None
        raise _bad(address, "is no JSON", 'mend it: {"0": "cat", "1": "dog"}') from None
    if isinstance(found, dict) and len(found) == 1 and isinstance(only := next(iter(found.values())), list | dict):
        found = only
    try:
        return list(_pairs(found, first))
    except (TypeError, ValueError, KeyError):
        raise _bad(
            address, "has not the form of a label map", 'write {"0": "cat"}, ["cat"] or [{"id": 0, "name": "cat"}]'
        ) from None


def _pairs(found: Any, first: int) -> Iterable[tuple[int, str]]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield (value, str(key)) if isinstance(value, int) else (int(key), _text(value))
        return
    for number, item in enumerate(found, first):
        yield (
            (int(item["id"]), _text(item.get("display_name") or item["name"]))
            if isinstance(item, dict)
            else (number, _text(item))
        )


def _text(value: Any) -> str:
    if value is None or isinstance(value, dict | list | float):
        raise TypeError(value)
    return str(value)


def _from_pbtxt(text: str, address: str) -> list[tuple[int, str]]:
    found = _label_map_class()()
    try:
        text_format.Parse(text, found, allow_unknown_field=True)
    except text_format.ParseError as error:
        raise _bad(address, f"is no label map in pbtxt ({error})", "write item { id: 1 name: 'cat' }") from None
    if odd := next(
        (item for item in found.item if not item.HasField("id") or not (item.display_name or item.name)), None
    ):
        raise _bad(address, f"an item lacks its id or its name: {' '.join(str(odd).split())}", "complete it")
    return [(item.id, item.display_name or item.name) for item in found.item]


def _label_map_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="kinsight/label_map.proto", package="kinsight.labels", syntax="proto2"
    )
    item = file.message_type.add(name="Item")
    for name, number, kind in (
        ("name", 1, _FIELD.TYPE_STRING),
        ("id", 2, _FIELD.TYPE_INT32),
        ("display_name", 3, _FIELD.TYPE_STRING),
    ):
        item.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    whole = file.message_type.add(name="LabelMap")
    whole.field.add(
        name="item", number=1, type=_FIELD.TYPE_MESSAGE, type_name=".kinsight.labels.Item", label=_FIELD.LABEL_REPEATED
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kinsight.labels.LabelMap"))


def _checked(pairs: Iterable[tuple[int, str]], address: str) -> dict[int, str]:
    name_of: dict[int, str] = {}
    number_of: dict[str, int] = {}
    for number, name in pairs:
        name = name.strip()
        if not name or number < 0:
            raise _bad(address, f"number {number} has the name {name!r}", "number from 0 or 1 on, and name each class")
        if number in name_of:
            raise _bad(address, f"{number} is the number of {name_of[number]!r} and of {name!r}", "number each once")
        if name in number_of:
            raise _bad(address, f"{name!r} is the name of {number_of[name]} and of {number}", "name each once")
        name_of[number], number_of[name] = name, number
    if not name_of:
        raise _bad(address, "names no class", "list the classes")
    return name_of


def _bad(address: str, what: str, remedy: str) -> DataError:
    return DataError("data.label-map", what, field=f"label_map={storage.Address.parse(address)}", remedy=remedy)
