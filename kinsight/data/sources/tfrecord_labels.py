"""What the labels of TFRecords say: numbers, names by number, or names, and what they are to be told apart by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.labels import LabelKind, are_numbers
from kinsight.data.sources.parsed import strings
from kinsight.data.tfrecord.label_map import own_classes, read_label_map
from kinsight.errors import DataError, SpecError
from kinsight.specs.data import TFRecord


@dataclass(frozen=True)
class FoundLabels:
    """Labels of all records, one after the other, as the files have them.

    number_M, text_M: labels of one kind, the other is None. count_N: of each record. texts: list<string> of each
    record, which may name the numbers. place: where record i stands, for messages.
    """

    number_M: np.ndarray | None
    text_M: pa.ChunkedArray | None
    count_N: np.ndarray
    texts: pa.ChunkedArray
    place: Callable[[int], str]

    def place_of_label(self, label: int) -> str:
        """The record that label number `label` of all belongs to."""
        return self.place(int(np.searchsorted(np.cumsum(self.count_N, dtype=np.int64), label, side="right")))


@dataclass(frozen=True)
class Asked:
    """What the labels are to be told apart by, as `read_records` is told."""

    num_classes: int | None = None
    classes: Sequence[str] | None = None
    learned: bool = False

    @property
    def by_number(self) -> bool:
        """Whether the classes are known, and are numbers."""
        return self.classes is not None and are_numbers(self.classes)

    @property
    def limit(self) -> int | None:
        """C, where the labels must be 0..C-1."""
        if self.classes is None:
            return self.num_classes
        return len(self.classes) if list(self.classes) == [str(n) for n in range(len(self.classes))] else None


@dataclass(frozen=True)
class Named:
    """label_M: text of each label. classes: names in class order where they are known. notes: for the user."""

    label_M: pa.ChunkedArray
    kind: LabelKind
    classes: list[str] | None = None
    notes: tuple[str, ...] = ()


def _name_of(label_map: str, label_offset: int) -> dict[int, str]:
    """The label map. Raises SpecError for an offset beside a map that has the numbers."""
    name_of = read_label_map(label_map, label_offset)
    if label_offset and name_of == read_label_map(label_map, 0):
        raise SpecError(
            "spec.no-effect",
            f"has no effect: the label map {label_map} says which number each name has",
            field=f"label_offset={label_offset}",
            remedy="leave it out",
        )
    return name_of


def named_labels(found: FoundLabels, source: TFRecord, asked: Asked) -> Named:
    """The labels as texts. Raises DataError for numbers without a name, below the first, or of unknown meaning."""
    if source.label_map is not None:
        name_of = _name_of(source.label_map, source.label_offset)
        classes, remark = own_classes(name_of, asked.num_classes, f"label_map={source.label_map}")
        label_M = found.text_M
        if label_M is None:
            label_M = _by_name(found, name_of, f"the label map {source.label_map}")
        return Named(label_M, "name", classes, _noted(source.label_map, remark))
    if found.text_M is not None:
        return Named(found.text_M, "name")
    _refuse_below(found, source)
    names, remarks = _by_texts(found, source)
    if names is not None and asked.by_number and not are_numbers(list(names.values())):
        names, remarks = None, (f"{source.text_key!r} was left aside: the classes are numbers",)
    if names is not None:
        shifted = {number - source.label_offset: name for number, name in names.items()}
        classes, remark = own_classes(shifted, asked.num_classes, f"labels of {source.path}")
        notes = _noted(f"labels of {source.path}", remark)
        return Named(_by_name(found, names, "the texts"), "name", classes, notes)
    _refuse_bare(found, asked)
    _refuse_from_one(found, source, asked.limit)
    assert found.number_M is not None
    numbers = pa.array(found.number_M - source.label_offset).cast(pa.string())
    return Named(pa.chunked_array([numbers]), "value", None, remarks)


def _refuse_below(found: FoundLabels, source: TFRecord) -> None:
    assert found.number_M is not None
    if (low := np.flatnonzero(found.number_M < source.label_offset)).size:
        raise DataError(
            "data.label-range",
            f"label {found.number_M[low[0]]} lies below the first class's number, {source.label_offset}",
            field=found.place_of_label(int(low[0])),
            remedy="set label_offset to the smallest label that counts; remove images whose label means `unknown`",
        )


def _refuse_bare(found: FoundLabels, asked: Asked) -> None:
    """Raise DataError for numbers where a model's classes have names: they may count from 0, from 1, or with gaps."""
    assert found.number_M is not None
    if not asked.learned or asked.classes is None or asked.by_number or not len(found.number_M):
        return
    names = ", ".join(asked.classes[:3]) + (", ..." if len(asked.classes) > 3 else "")
    raise DataError(
        "data.label-numbers",
        f"label {found.number_M[0]} is a bare number, but the model's {len(asked.classes)} classes have names "
        f"({names}): which one it means is not known",
        field=found.place_of_label(0),
        remedy="set label_map=FILE for this source, the names by number (a text file will do, a name a line from "
        "label_offset on), or text_key to the feature with the names",
    )


def _refuse_from_one(found: FoundLabels, source: TFRecord, num_classes: int | None) -> None:
    """Raise DataError for labels 1..C of C classes; any other label out of range is named where labels get numbers."""
    assert found.number_M is not None
    if num_classes is None or not len(found.number_M):
        return
    first, last, offset = int(found.number_M.min()), int(found.number_M.max()), source.label_offset
    if first <= offset or last - offset != num_classes:
        return
    raise DataError(
        "data.label-range",
        f"label {last} is outside {offset}..{last - 1} (there are {num_classes} classes)",
        field=found.place_of_label(int(np.argmax(found.number_M))),
        remedy=f"the labels start at {offset + 1}: set label_offset={offset + 1} for this source, or label_map=FILE "
        "with names for these numbers",
    )


def _by_name(found: FoundLabels, name_of: dict[int, str], where: str) -> pa.ChunkedArray:
    """The name of each label's number."""
    assert found.number_M is not None
    number_C, code_M = np.unique(found.number_M, return_inverse=True)
    unknown_C = np.array([number not in name_of for number in number_C.tolist()], bool)
    if unknown_C.any():
        label = int(np.flatnonzero(unknown_C[code_M])[0])
        raise DataError(
            "data.label-unknown",
            f"label {found.number_M[label]} has no name in {where}, which names {min(name_of)} to {max(name_of)}"
            f" ({len(name_of)} names)",
            field=found.place_of_label(label),
            remedy="add it there, or mend the label",
        )
    names = pa.array([name_of[number] for number in number_C.tolist()], pa.string())
    return pa.chunked_array([names.take(pa.array(code_M))])


def _by_texts(found: FoundLabels, source: TFRecord) -> tuple[dict[int, str] | None, tuple[str, ...]]:
    """Name of each number, where texts stand beside the numbers and always say the same; else None and a remark."""
    text_M = strings(pc.list_flatten(found.texts).chunks)
    if not len(text_M) or found.number_M is None:
        return None, ()
    aside = f"{source.text_key!r} was left aside: "
    if not np.array_equal(pc.list_value_length(found.texts).to_numpy(), found.count_N):
        return None, (f"{aside}it has not as many texts as labels",)
    encoded = text_M.dictionary_encode().unify_dictionaries()
    code_M = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks])
    names: list[str] = encoded.chunk(0).dictionary.to_pylist()
    number_C, class_M = np.unique(found.number_M, return_inverse=True)
    class_K, code_K = np.divmod(np.unique(class_M * len(names) + code_M), len(names))  # the pairs that occur
    if not len(class_K) == len(number_C) == len(names):
        return None, (f"{aside}its texts and the labels do not go together one to one",)
    return {int(number_C[k]): names[code] for k, code in zip(class_K.tolist(), code_K.tolist(), strict=True)}, ()


def _noted(what: str | None, remark: str) -> tuple[str, ...]:
    return (f"{what}: {remark}",) if remark else ()
