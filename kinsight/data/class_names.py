"""Class lists: the names of the classes in label order, given inline or in a text file."""

import csv
from collections.abc import Sequence

from kinsight import storage
from kinsight.errors import DataError, StorageError


def read_class_names(classes: str | Sequence[str]) -> list[str]:
    """Class names in label order: of a list, of the text `[a,b,c]`, or of a text file at an address.

    A file of several lines has a name on each; a file of one line separates them by commas. Blank lines are skipped.
    Raises DataError for a file that is not there, an empty list and a name that stands there twice, StorageError if the
    file can't be read.
    """
    place = "classes"
    if not isinstance(classes, str):
        names = [str(name).strip() for name in classes]
    elif _is_inline(classes):
        names = _comma_separated(classes.strip()[1:-1])
    else:
        place = classes
        names = _names_in(_text_of(classes))
    return _checked_names(names, place)


def _text_of(address: str) -> str:
    try:
        return storage.read_text(address).removeprefix("\ufeff")
    except StorageError as error:
        if error.code != "storage.not-found":
            raise
        raise DataError(
            "data.classes",
            f"{error.message}",
            field="data.classes",
            remedy="give the address of a text file of class names, or the names themselves: [cat,dog]",
        ) from None


def _is_inline(text: str) -> bool:
    return text.strip().startswith("[") and text.strip().endswith("]")


def _names_in(text: str) -> list[str]:
    if _is_inline(text):
        return _comma_separated(" ".join(text.strip()[1:-1].splitlines()))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        return _comma_separated(lines[0].rstrip(","))
    return [_unquoted(line.removesuffix(",").strip()) for line in lines]


def _comma_separated(text: str) -> list[str]:
    quote = "'" if text.lstrip().startswith("'") else '"'
    rows = list(csv.reader([text], skipinitialspace=True, quotechar=quote))
    return [name.strip() for name in rows[0]] if rows else []


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _checked_names(names: list[str], place: str) -> list[str]:
    if not names:
        raise DataError("data.classes", "holds no class name", field=place, remedy="list the names in label order")
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name:
            raise DataError("data.classes", f"class {number} has an empty name", field=place, remedy="name it")
        if name in seen:
            raise DataError(
                "data.classes",
                f"{name!r} is the name of class {seen[name]} and of class {number}",
                field=place,
                remedy="give each class a name of its own",
            )
        seen[name] = number
    return names
