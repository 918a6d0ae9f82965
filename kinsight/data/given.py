"""Images as people give them: files, folders, lists and tables of addresses, one after the other."""

from collections.abc import Sequence

import pyarrow as pa

from kinsight import storage
from kinsight.data.records import Records
from kinsight.data.sources.paths import IMAGE_SUFFIXES
from kinsight.data.sources.read import read_records
from kinsight.specs.data import Csv, Folder, ImageList, Itag, Parquet, Source, TFRecord

_LISTS = (".txt", ".lst", ".list")
_COLUMNS = ("uri", "labels", "offset", "length")


def image_records(given: Sequence[str]) -> Records:
    """The images that addresses stand for, in their order, labels of lists left as they are.

    A folder holds images at any depth; a list (.txt, .lst, .list, .csv, .parquet, .manifest) names them; TFRecords
    (.tfrecord, also with * in the name) hold them; anything else is an image, whether it is there or not. Raises
    DataError, StorageError for folders and lists.
    """
    tables: list[pa.Table] = []
    plain: list[str] = []
    for text in given:
        source = _source(text)
        if source is None:
            plain.append(text)
            continue
        tables += _plain_images(plain)
        plain = []
        table = read_records(source, labelled=False, own_vocabulary=True, remarks=False).table
        tables.append(table.select([name for name in _COLUMNS if name in table.column_names]))
    return Records(_joined([*tables, *_plain_images(plain)]), (), "images")


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


def _source(text: str) -> Source | None:
    """What a list or folder is read as; None for an image."""
    name = storage.Address.parse(text).name.lower()
    if name.endswith(_LISTS):
        return ImageList(path=text)
    if name.endswith(".csv"):
        return Csv(path=text)
    if name.endswith(".parquet"):
        return Parquet(path=text)
    if name.endswith(".manifest"):
        return Itag(path=text)
    if name.endswith((".tfrecord", ".tfrecords")):
        return TFRecord(path=text)
    if name.rpartition(".")[2] in IMAGE_SUFFIXES:
        return None
    return Folder(path=text) if storage.is_directory(text) else None
