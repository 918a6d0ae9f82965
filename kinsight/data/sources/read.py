"""From a source's spec to Records: parse, resolve addresses, number the labels."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.labels import NUMBERED, Numbering, number_labels, refuse_header
from kinsight.data.records import Records, not_single
from kinsight.data.sources.coco import read_coco
from kinsight.data.sources.easyvision import read_easyvision_csv
from kinsight.data.sources.folder import read_folder
from kinsight.data.sources.image_list import read_image_list
from kinsight.data.sources.itag import read_itag
from kinsight.data.sources.lacking import lacking_columns, with_each
from kinsight.data.sources.parsed import Parsed
from kinsight.data.sources.paths import resolve_paths, root_of
from kinsight.data.sources.sop import read_sop
from kinsight.data.sources.table import read_csv, read_parquet
from kinsight.data.sources.tfrecord import read_tfrecord
from kinsight.data.sources.tfrecord_labels import Asked
from kinsight.data.sources.voc import read_voc
from kinsight.data.values import grouping_values
from kinsight.specs.data import (
    Coco,
    Csv,
    EasyVisionCsv,
    Folder,
    ImageList,
    Itag,
    Parquet,
    Sop,
    Source,
    TFRecord,
    Voc,
)
from kinsight.storage import Address

_COUNT_REPEATS_UP_TO = 1_000_000  # images; telling repeats apart takes as much memory as their addresses


def read_records(
    source: Source,
    *,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    own_vocabulary: bool = False,
    learned: bool = False,
    labelled: bool = True,
    single: bool = False,
    remarks: bool = True,
) -> Records:
    """Read all images and labels that `source` names.

    classes: class names in label order (see `read_class_names`). num_classes: how many classes must suffice.
    own_vocabulary: neither applies; the labels stand for themselves. learned: `classes` are those of a model, of which
    nobody knows how TFRecords number them. labelled: an image without a label is an error;
    without, such images have an empty list of labels. single: so is one with several.
    remarks: note also how labels are numbered and that lines repeat.
    Raises DataError naming file and line, StorageError if an address does not answer.
    """
    asked = Asked() if own_vocabulary else Asked(num_classes, classes, learned)
    parsed = _parse(source, labelled=labelled, asked=asked)
    if parsed.classes is not None and (classes is None or own_vocabulary):
        classes, num_classes, own_vocabulary = parsed.classes, None if own_vocabulary else num_classes, False
    label_M, unknown_M, numbering = _number(parsed, classes, num_classes, own_vocabulary)
    labels_N = _lists(label_M, parsed.count_N)
    if single:
        _refuse_several(labels_N, numbering.class_names, parsed)
    lacking, asking = lacking_columns(parsed.asked, numbering.class_names)
    uri_N = resolve_paths(parsed.path_N, _root(source))
    columns = {"uri": uri_N, "labels": labels_N}
    if parsed.unknown_count_N is not None:
        columns["unknown"] = _lists(*with_each(unknown_M, parsed.unknown_count_N, lacking))
    if parsed.offset_N is not None and parsed.length_N is not None:
        columns["offset"] = pa.chunked_array([pa.array(parsed.offset_N, pa.int64())])
        columns["length"] = pa.chunked_array([pa.array(parsed.length_N, pa.int64())])
    if parsed.group_N is not None:
        columns["group"] = _group_values(parsed.group_N)
    if parsed.line_N is not None:
        columns["line"] = pa.chunked_array([pa.array(parsed.line_N, pa.int32())])
    numbered = [note for note in numbering.notes if remarks or NUMBERED not in note]
    repeats = _repeats(uri_N) if remarks and parsed.offset_N is None else ()
    notes = (*parsed.notes, *numbered, *(asking if remarks else ()), *repeats)
    return Records(pa.table({**columns, **parsed.extra}), numbering.class_names, str(Address.parse(source.path)), notes)


def _refuse_several(labels_N: pa.ChunkedArray, names: Sequence[str], parsed: Parsed) -> None:
    if not (odd := np.flatnonzero(pc.list_value_length(labels_N).to_numpy() > 1)).size:
        return
    first = int(odd[0])
    labels: list[int] = labels_N[first].as_py()
    shown = [names[label] for label in labels]
    remedy = "give each image one label, or train with task=multilabel, where images have any number"
    raise not_single(shown, odd.size, parsed.place(first), remedy)


def _parse(source: Source, *, labelled: bool, asked: Asked) -> Parsed:
    match source:
        case ImageList():
            return read_image_list(source, labelled=labelled)
        case Folder():
            return read_folder(source, labelled=labelled)
        case Itag():
            return read_itag(source, labelled=labelled)
        case Sop():
            return read_sop(source)
        case Csv():
            return read_csv(source, labelled=labelled)
        case Parquet():
            return read_parquet(source, labelled=labelled)
        case TFRecord():
            return read_tfrecord(source, labelled=labelled, asked=asked)
        case EasyVisionCsv():
            return read_easyvision_csv(source, labelled=labelled)
        case Coco():
            return read_coco(source, labelled=labelled)
        case Voc():
            return read_voc(source, labelled=labelled)
        case _:
            assert_never(source)


def _root(source: Source) -> Address:
    match source:
        case Folder() | Voc():
            return root_of(source.path, source.path)
        case Itag() | TFRecord():
            return root_of(None, source.path)
        case _:
            return root_of(source.root, source.path)


def _number(
    parsed: Parsed, classes: Sequence[str] | None, num_classes: int | None, own_vocabulary: bool
) -> tuple[np.ndarray, np.ndarray, Numbering]:
    """int32 class number per label and per unknown label, and the vocabulary."""
    columns = [parsed.label_M] if parsed.unknown_M is None else [parsed.label_M, parsed.unknown_M]
    joined = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    encoded = joined.dictionary_encode().unify_dictionaries()
    texts: list[str] = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    text_M = np.concatenate(
        [np.zeros(0, np.int32), *(chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks)]
    )
    known = len(parsed.label_M)

    def where(text: int) -> str:
        label, count_N = int(np.flatnonzero(text_M == text)[0]), parsed.count_N
        if label >= known and parsed.unknown_count_N is not None:
            label, count_N = label - known, parsed.unknown_count_N
        return parsed.place(int(np.searchsorted(np.cumsum(count_N, dtype=np.int64), label, side="right")))

    if parsed.may_have_header and texts and texts[0] not in (classes or ()):
        refuse_header(texts, int((text_M == 0).sum()), where)
    numbering = number_labels(
        texts,
        kind=parsed.kind,
        classes=classes,
        num_classes=num_classes,
        own_vocabulary=own_vocabulary,
        where=where,
        count_T=np.bincount(text_M[:known], minlength=len(texts)),
    )
    number_M = numbering.number_T[text_M]
    return number_M[:known], number_M[known:], numbering


def _lists(label_M: np.ndarray, count_N: np.ndarray) -> pa.ChunkedArray:
    """list<int32> per image, each label once."""
    if count_N.size and count_N.max() > 1:
        row_M = np.repeat(np.arange(len(count_N)), count_N)
        pair_M = row_M.astype(np.int64) << 32 | label_M
        first = np.sort(np.unique(pair_M, return_index=True)[1])
        label_M, count_N = label_M[first], np.bincount(row_M[first], minlength=len(count_N))
    offset_N1 = np.concatenate([[0], np.cumsum(count_N, dtype=np.int64)])
    assert offset_N1[-1] < 2**31, "more labels than Arrow's lists count"
    lists = pa.ListArray.from_arrays(pa.array(offset_N1.astype(np.int32)), pa.array(label_M, pa.int32()))
    return pa.chunked_array([lists])


def _group_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Groups as the source has them, so that those of two sources can be compared: whole numbers or text."""
    values = grouping_values(column)
    return pa.chunked_array([values if values is not None else column.combine_chunks().cast(pa.string())])


def _repeats(uri_N: pa.ChunkedArray) -> tuple[str, ...]:
    if len(uri_N) > _COUNT_REPEATS_UP_TO or not (repeats := len(uri_N) - len(pc.unique(uri_N))):
        return ()
    if repeats == 1:
        return ("1 line repeats an image that an earlier line names; it is kept, and counts each time",)
    return (f"{repeats:,} lines repeat an image that an earlier line names; they are kept, and count each time",)
