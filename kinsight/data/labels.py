"""Labels become class numbers: which vocabulary holds, and what is wrong with a label outside it.

Works on distinct labels only, so that its cost follows the number of classes, not of images.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinsight.errors import DataError, SpecError

# value: an integer or a name, as the text looks; id: an integer that only identifies; name: always a name
LabelKind = Literal["value", "id", "name"]

NUMBERED = "are numbered 0.."  # in the note on labels that are not 0..C-1

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Numbering:
    """number_T: int32 class number of each distinct label. class_names: name of each class. notes: for the user."""

    number_T: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def natural_key(text: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key under which `img2` comes before `img10`; ties (`1` and `01`) fall back on the text itself."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", text)
    return [(bool(letters), 0 if letters else _number(digits), letters) for digits, letters in parts], text


def _number(digits: str) -> int:
    return int(digits[-4000:])  # Python refuses to convert longer ones


def number_labels(
    texts: Sequence[str],
    *,
    kind: LabelKind = "value",
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    own_vocabulary: bool = False,
    where: Callable[[int], str],
    count_T: np.ndarray | None = None,
) -> Numbering:
    """Number the distinct labels `texts`, which stand in order of first appearance.

    classes: names in the order of their numbers. num_classes: the number that must suffice. own_vocabulary: neither
    applies, these labels stand for themselves. where: place of the first record with label `texts[t]`.
    count_T: how many records have that label.
    Raises DataError naming that place, SpecError if `classes` and `num_classes` disagree.
    """
    if own_vocabulary:
        classes = num_classes = None
    value_T = None if kind == "name" else _integers(texts)
    if classes is not None:
        if num_classes is not None and num_classes != len(classes):
            raise SpecError(
                "spec.num-classes",
                f"num_classes={num_classes}, but the class list has {len(classes)} names",
                field="data.num_classes",
                remedy="leave num_classes out: the class list decides",
            )
        return _by_class_list(texts, value_T, classes, where, count_T)
    if value_T is None:
        return _by_name(texts, num_classes, where, kind)
    return _by_integer(value_T, num_classes, where, identifiers=kind == "id")


def refuse_header(texts: Sequence[str], num_first: int, where: Callable[[int], str]) -> None:
    """Raise DataError if the first label is the only one that is no integer and stands once: a header line."""
    if num_first == 1 and len(texts) > 1 and _integers(texts[:1]) is None and _integers(texts[1:]) is not None:
        raise DataError(
            "data.format",
            f"label {texts[0]!r} is no integer, but all others are: this looks like a header line",
            field=where(0),
            remedy="if it is a header, remove it or set `format: csv`; if not, give names to all, or numbers to all",
        )


def are_numbers(texts: Sequence[str]) -> bool:
    """Whether every text is an integer."""
    return all(map(_INTEGER.fullmatch, texts))


def _integers(texts: Sequence[str]) -> np.ndarray | None:
    """int64 values if every text is an integer, else None."""
    if not are_numbers(texts):
        return None
    return np.array([int(text) for text in texts], np.int64)


def _by_class_list(
    texts: Sequence[str],
    value_T: np.ndarray | None,
    classes: Sequence[str],
    where: Callable[[int], str],
    count_T: np.ndarray | None,
) -> Numbering:
    number_of = {name: number for number, name in enumerate(classes)}
    number_T = np.array([number_of.get(text, -1) for text in texts], np.int32)
    unknown = np.flatnonzero(number_T < 0)
    # Integers are positions in a list of names. Where the names are integers themselves, a label that is none of
    # them must not quietly turn into another class.
    if unknown.size and value_T is not None and not are_numbers(classes):
        _refuse_negative(value_T, where)
        _refuse_beyond(value_T, len(classes), "the class list", where)
        return Numbering(value_T.astype(np.int32), tuple(classes))
    if unknown.size:
        first = int(unknown[0])
        rows = int(count_T[first]) if count_T is not None else 0
        raise _unknown_label(texts[first], classes, where(first), rows)
    return Numbering(number_T, tuple(classes))


def _by_name(texts: Sequence[str], num_classes: int | None, where: Callable[[int], str], kind: LabelKind) -> Numbering:
    if num_classes is not None and len(texts) > num_classes:
        raise _too_many(texts[num_classes], len(texts), num_classes, where(num_classes))
    names = sorted(texts, key=natural_key)
    number_of = {name: number for number, name in enumerate(names)}
    number_T = np.array([number_of[text] for text in texts], np.int32)
    num_integers = sum(_INTEGER.fullmatch(text) is not None for text in texts)
    notes = ()
    if kind == "value" and num_integers:
        notes = (
            f"{num_integers} of the {len(texts)} different labels are integers, the others not: all count as names",
        )
    return Numbering(number_T, _padded(names, num_classes), notes)


def _by_integer(
    value_T: np.ndarray, num_classes: int | None, where: Callable[[int], str], *, identifiers: bool
) -> Numbering:
    _refuse_negative(value_T, where)
    if num_classes is not None and not identifiers:
        _refuse_beyond(value_T, num_classes, "num_classes", where)
        return Numbering(value_T.astype(np.int32), tuple(map(str, range(num_classes))))
    value_C, first_C, number_T = np.unique(value_T, return_index=True, return_inverse=True)
    if num_classes is not None and len(value_C) > num_classes:
        extra = int(np.sort(first_C)[num_classes])
        raise _too_many(str(value_T[extra]), len(value_C), num_classes, where(extra))
    notes = ()
    if not identifiers and value_C.size and value_C[-1] != len(value_C) - 1:
        notes = (
            f"labels {value_C[0]}..{value_C[-1]} ({len(value_C)} different ones) {NUMBERED}{len(value_C) - 1}; "
            "the class names keep the originals",
        )
    return Numbering(number_T.astype(np.int32), _padded([str(value) for value in value_C], num_classes), notes)


def _padded(names: list[str], num_classes: int | None) -> tuple[str, ...]:
    """Names for the classes that `num_classes` promises and no image shows (yet)."""
    return (*names, *(f"(unused {number})" for number in range(len(names), num_classes or 0)))


def _refuse_negative(value_T: np.ndarray, where: Callable[[int], str]) -> None:
    if (bad := np.flatnonzero(value_T < 0)).size:
        raise DataError(
            "data.label-negative",
            f"label {value_T[bad[0]]} is negative; class numbers start at 0",
            field=where(int(bad[0])),
            remedy="remove the image from the list if the label means `unknown`; else number the classes from 0",
        )


def _refuse_beyond(value_T: np.ndarray, num_classes: int, limit: str, where: Callable[[int], str]) -> None:
    if not (bad := np.flatnonzero(value_T >= num_classes)).size:
        return
    remedy = f"set num_classes to at least {int(value_T.max()) + 1}, or mend the label"
    if limit != "num_classes":
        remedy = "add the missing names to the class list, or mend the label"
    elif value_T.min() >= 1 and value_T.max() == num_classes:
        remedy = "the labels start at 1: subtract one, or leave num_classes out and they are numbered from 0"
    raise DataError(
        "data.label-range",
        f"label {value_T[bad[0]]} is outside 0..{num_classes - 1} ({limit} allows {num_classes} classes)",
        field=where(int(bad[0])),
        remedy=remedy,
    )


def _too_many(text: str, num_found: int, num_classes: int, place: str) -> DataError:
    return DataError(
        "data.num-classes",
        f"label {text!r} is class number {num_classes + 1}, but num_classes={num_classes}; {num_found} are in use",
        field=place,
        remedy=f"set num_classes to {num_found} or more, or leave it out",
    )


def _unknown_label(text: str, classes: Sequence[str], place: str, rows: int) -> DataError:
    near = difflib.get_close_matches(text, classes, n=1, cutoff=0.5)
    hint = f"; the nearest class is {near[0]!r}" if near else f"; the first classes are {', '.join(classes[:3])}"
    often = f" ({rows:,} such rows)" if rows > 1 else ""
    return DataError(
        "data.label-unknown",
        f"label {text!r}{often} is not among the {len(classes)} classes{hint}",
        field=place,
        remedy="mend the label, or add it to the class list",
    )
