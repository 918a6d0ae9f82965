"""TFRecord files as records: an image is a range of its file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kinsight.data.arrow import pc
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.data.sources.paths import IMAGE_SUFFIXES
from kinsight.data.sources.tfrecord_labels import Asked, FoundLabels, named_labels
from kinsight.data.tfrecord.example import Keys
from kinsight.data.tfrecord.shard_index import ShardIndex, index_shards, record_place
from kinsight.data.tfrecord.shards import find_shards
from kinsight.errors import DataError
from kinsight.specs.data import TFRecord


def read_tfrecord(source: TFRecord, *, labelled: bool, asked: Asked) -> Parsed:
    """All records of the files. Raises DataError naming file, record and byte; StorageError."""
    keys = Keys(source.image_key, source.label_key, source.text_key, source.format_key)
    found = _Found.of(index_shards(find_shards(source.path), keys))
    count_N, place = found.labels.count_N, found.labels.place
    if not len(count_N):
        raise DataError(
            "data.tfrecord-empty", "holds no record", field=source.path, remedy="name files with at least one"
        )
    found.refuse_formats(source)
    named = named_labels(found.labels, source, asked)
    if labelled and (bare := np.flatnonzero(count_N == 0)).size:
        raise DataError(
            "data.label-missing",
            f"no label in {source.label_key!r}{_or_text(source)} ({bare.size} such records)",
            field=place(int(bare[0])),
            remedy="set label_key to the feature with the labels",
        )
    return Parsed(
        found.uri_N,
        named.label_M,
        count_N,
        place=place,
        kind=named.kind,
        notes=named.notes,
        classes=named.classes,
        offset_N=found.table["offset"].to_numpy(),
        length_N=found.table["length"].to_numpy(),
    )


@dataclass
class _Found:
    """The records of all files, in their order."""

    uri_N: pa.ChunkedArray
    table: pa.Table
    labels: FoundLabels

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
        return cls(strings(uris), table, FoundLabels(numbers, texts, count_N, table["texts"], place))

    def refuse_formats(self, source: TFRecord) -> None:
        """Raise DataError for the first image whose format is none that is read."""
        formats = pc.unique(self.table["format"]).to_pylist()
        odd = [name for name in formats if name and name.lower().strip(". ") not in IMAGE_SUFFIXES]
        if odd:
            first = int(np.flatnonzero(pc.is_in(self.table["format"], pa.array(odd)).to_numpy())[0])
            raise DataError(
                "data.tfrecord-format",
                f"{source.format_key!r} says {self.table['format'][first].as_py()!r}, which is no format of images",
                field=self.labels.place(first),
                remedy="write the images as JPEG or PNG; if the feature means something else, set format_key to null",
            )


def _or_text(source: TFRecord) -> str:
    return f" or {source.text_key!r}" if source.text_key is not None else ""
