"""Images as people give them: files, folders, lists and tables of addresses, one after the other."""

from collections.abc import Sequence

import pyarrow as pa

from kinsight import storage
from kinsight.data.given_faults import TFRECORDS, refuse_no_list
from kinsight.data.image_columns import image_columns
from kinsight.data.records import Records
from kinsight.data.sources.paths import IMAGE_SUFFIXES
from kinsight.data.sources.read import read_records
from kinsight.errors import DataError, SpecError
from kinsight.specs.data import Csv, Folder, ImageList, Itag, Parquet, Source, TFRecord

_LISTS = (".txt", ".lst", ".list")
IMAGE_COLUMN = "image"  # unless another is named
_COLUMNS = ("uri", "labels", "offset", "length")


def image_records(given: Sequence[str], *, image_column: str = IMAGE_COLUMN) -> Records:
    """The images that addresses stand for, in their order, labels of lists left as they are.

    A folder holds images at any depth; a list (.txt, .lst, .list, .csv, .parquet, .manifest) names them; TFRecords
    (.tfrecord, also with * in the name) hold them; anything else is an image, whether it is there or not.
    image_column: of .csv and .parquet lists. Raises DataError, StorageError for folders and lists, SpecError where
    another column than usual is named and no table given.
    """
    if image_column != IMAGE_COLUMN and not any(isinstance(_source(text), Csv | Parquet) for text in given):
        raise SpecError(
            "spec.no-effect",
            "has no effect without a .csv or .parquet list",
            field=f"image_column={image_column}",
            remedy="leave it out",
        )
    tables: list[pa.Table] = []
    plain: list[str] = []
    for text in given:
        source = _source(text, image_column)
        if source is None:
            plain.append(text)
            continue
        tables += _plain_images(plain)
        plain = []
        records = _read(source)
        if isinstance(source, ImageList):
            refuse_no_list(records)
        table = records.table
        tables.append(table.select([name for name in _COLUMNS if name in table.column_names]))
    return Records(_joined([*tables, *_plain_images(plain)]), (), "images")


def _read(source: Source) -> Records:
    try:
        return read_records(source, labelled=False, own_vocabulary=True, remarks=False)
    except DataError as error:
        likely = image_columns(source) if error.code == "data.column" and isinstance(source, Csv | Parquet) else []
        if len(likely) != 1:
            raise
        remedy = f"set image_column to {likely[0]!r}, whose cells look like addresses of images"
        raise DataError(error.code, error.message, field=error.field, remedy=remedy) from None


def _plain_images(uris: list[str]) -> list[pa.Table]:
    if not uris:
        return []
    labels = pa.array([[]] * len(uris), pa.list_(pa.int32()))
    return [pa.table({"uri": pa.array(uris, pa.string()), "labels": labels})]


def _joined(tables: list[pa.Table]) -> pa.Table:
    schemas = {tuple(table.column_names) for table in tables}
    if len(schemas) > 1:  # images of their own beside images inside shards: each then is an address
        tables = [_addressed(table) for table in tables]
    return pa.concat_tables(tables)


def _addressed(table: pa.Table) -> pa.Table:
    records = Records(table)
    return pa.table({"uri": records.uris, "labels": table["labels"]})


def _source(text: str, image_column: str = IMAGE_COLUMN) -> Source | None:
    """What a list or folder is read as; None for an image."""
    name = storage.Address.parse(text).name.lower()
    if name.endswith(_LISTS):
        return ImageList(path=text)
    if name.endswith(".csv"):
        return Csv(path=text, image_column=image_column)
    if name.endswith(".parquet"):
        return Parquet(path=text, image_column=image_column)
    if name.endswith(".manifest"):
        return Itag(path=text)
    if name.endswith(TFRECORDS):
        return TFRecord(path=text)
    if name.rpartition(".")[2] in IMAGE_SUFFIXES:
        return None
    return Folder(path=text) if storage.is_directory(text) else None
