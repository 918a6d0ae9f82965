"""TFRecord files as records: an image is a range of its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.labels import LabelKind
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.data.sources.paths import IMAGE_SUFFIXES
from kinsight.data.tfrecord.example import Keys
from kinsight.data.tfrecord.label_map import own_classes, read_label_map
from kinsight.data.tfrecord.shard_index import ShardIndex, index_shards, record_place
from kinsight.data.tfrecord.shards import find_shards
from kinsight.errors import DataError
from kinsight.specs.data import TFRecord


def read_tfrecord(source: TFRecord, *, labelled: bool, num_classes: int | None) -> Parsed:
    """All records of the files. Raises DataError naming file, record and byte; StorageError."""
    keys = Keys(source.image_key, source.label_key, source.text_key, source.format_key)
    found = _Found.of(index_shards(find_shards(source.path), keys))
    if not len(found.count_N):
        raise DataError(
            "data.tfrecord-empty", "holds no record", field=source.path, remedy="name files with at least one"
        )
    found.refuse_formats(source)
    label_M, kind, classes, notes = _labels(found, source, num_classes)
    if labelled and (bare := np.flatnonzero(found.count_N == 0)).size:
        raise DataError(
            "data.label-missing",
            f"no label in {source.label_key!r}{_or_text(source)} ({bare.size} such records)",
            field=found.place(int(bare[0])),
            remedy="set label_key to the feature with the labels",
        )
    return Parsed(
        found.uri_N,
        label_M,
        found.count_N,
        place=found.place,
        kind=kind,
        notes=notes,
        classes=classes,
        offset_N=found.table["offset"].to_numpy(),
        length_N=found.table["length"].to_numpy(),
    )


@dataclass
class _Found:
    """The records of all files. number_M, text_M: labels of one kind, the other is None. count_N: of each record."""

    uri_N: pa.ChunkedArray
    table: pa.Table
    number_M: np.ndarray | None
    text_M: pa.ChunkedArray | None
    count_N: np.ndarray
    place: Callable[[int], str]

    @classmethod
    def of(cls, indexes: Sequence[ShardIndex]) -> "_Found":
        """Files one after the other. Raises DataError where some have numbers and others texts as labels."""
        holding = [index for index in indexes if len(pc.list_flatten(index.table["labels"]))]
        kinds = {index.table.schema.field("labels").type for index in holding}
        if len(kinds) > 1:
            first = holding[0].table.schema.field("labels").type
            odd = next(index for index in holding if index.table.schema.field("labels").type != first)
            raise DataError(
                "data.tfrecord-labels",
                f"its labels are {odd.table.schema.field('labels').type.value_type}s, those of the files before "
                f"{first.value_type}s",
                field=odd.shard.name,
                remedy="name files of one kind",
            )
        kind = next(iter(kinds), pa.list_(pa.int64()))
        table = pa.concat_tables(
            [index.table.set_column(3, "labels", index.table["labels"].cast(kind)) for index in indexes]
        )
        uris = [pa.repeat(index.shard.address.uri, len(index)) for index in indexes]
        start_S1 = np.cumsum([0, *map(len, indexes)])
        at_N = table["at"].to_numpy()

        def place(i: int) -> str:
            shard = int(np.searchsorted(start_S1, i, side="right")) - 1
            return record_place(indexes[shard].shard.name, i - int(start_S1[shard]), int(at_N[i]))

        flat = pc.list_flatten(table["labels"])
        is_text = pa.types.is_string(kind.value_type)
        count_N = pc.list_value_length(table["labels"]).to_numpy().astype(np.int32)
        numbers, texts = (None, strings(flat.chunks)) if is_text else (flat.to_numpy().astype(np.int64), None)
        if not is_text and not len(flat):  # no label at all: names may stand alone
            count_N = pc.list_value_length(table["texts"]).to_numpy().astype(np.int32)
            numbers, texts = None, strings(pc.list_flatten(table["texts"]).chunks)
        return cls(strings(uris), table, numbers, texts, count_N, place)

    def place_of_label(self, label: int) -> str:
        """The record that label number `label` of all belongs to."""
        return self.place(int(np.searchsorted(np.cumsum(self.count_N, dtype=np.int64), label, side="right")))

    def refuse_formats(self, source: TFRecord) -> None:
        """Raise DataError for the first image whose format is none that is read."""
        formats = pc.unique(self.table["format"]).to_pylist()
        odd = [name for name in formats if name and name.lower().strip(". ") not in IMAGE_SUFFIXES]
        if odd:
            first = int(np.flatnonzero(pc.is_in(self.table["format"], pa.array(odd)).to_numpy())[0])
            raise DataError(
                "data.tfrecord-format",
                f"{source.format_key!r} says {self.table['format'][first].as_py()!r}, which is no format of images",
                field=self.place(first),
                remedy="write the images as JPEG or PNG; if the feature means something else, set format_key to null",
            )


def _labels(
    found: _Found, source: TFRecord, num_classes: int | None
) -> tuple[pa.ChunkedArray, LabelKind, list[str] | None, tuple[str, ...]]:
    """Label texts, their kind, names in class order where they are known, and remarks."""
    name_of = read_label_map(source.label_map, source.label_offset) if source.label_map is not None else None
    if found.text_M is not None:
        if name_of is None:
            return found.text_M, "name", None, ()
        classes, remark = own_classes(name_of, num_classes, f"label_map={source.label_map}")
        return found.text_M, "name", classes, _noted(source.label_map, remark)
    assert found.number_M is not None
    if name_of is not None:
        classes, remark = own_classes(name_of, num_classes, f"label_map={source.label_map}")
        return (
            _named(found, name_of, f"the label map {source.label_map}"),
            "name",
            classes,
            _noted(source.label_map, remark),
        )
    if (low := np.flatnonzero(found.number_M < source.label_offset)).size:
        raise DataError(
            "data.label-range",
            f"label {found.number_M[low[0]]} lies below the first class's number, {source.label_offset}",
            field=found.place_of_label(int(low[0])),
            remedy="set label_offset to the smallest label that counts; remove images whose label means `unknown`",
        )
    names, remarks = _by_texts(found, source)
    if names is None:
        numbers = pa.array(found.number_M - source.label_offset).cast(pa.string())
        return pa.chunked_array([numbers]), "value", None, remarks
    shifted = {number - source.label_offset: name for number, name in names.items()}
    classes, remark = own_classes(shifted, num_classes, f"labels of {source.path}")
    return _named(found, names, "the texts"), "name", classes, _noted(f"labels of {source.path}", remark)


def _named(found: _Found, name_of: dict[int, str], where: str) -> pa.ChunkedArray:
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


def _by_texts(found: _Found, source: TFRecord) -> tuple[dict[int, str] | None, tuple[str, ...]]:
    """Name of each number, where texts stand beside the numbers and always say the same; else None and a remark."""
    texts = found.table["texts"]
    text_M = pc.list_flatten(texts).to_pylist()
    if not text_M or found.number_M is None:
        return None, ()
    aside = f"{source.text_key!r} was left aside: "
    if not np.array_equal(pc.list_value_length(texts).to_numpy(), found.count_N):
        return None, (f"{aside}it has not as many texts as labels",)
    pairs = set(zip(found.number_M.tolist(), text_M, strict=True))
    name_of = dict(sorted(pairs))
    if len({name for _, name in pairs}) != len(pairs) or len(name_of) != len(pairs):
        return None, (f"{aside}its texts and the labels do not go together one to one",)
    return name_of, ()


def _noted(what: str | None, remark: str) -> tuple[str, ...]:
    return (f"{what}: {remark}",) if remark else ()


def _or_text(source: TFRecord) -> str:
    return f" or {source.text_key!r}" if source.text_key is not None else ""
