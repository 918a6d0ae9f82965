"""One write of an index: new files under a new generation's names, then the header, then what nobody needs any more."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from kinsight import __version__, storage
from kinsight.errors import KinsightError, RunError, StorageError
from kinsight.indexing.files import VectorWriter, mark_of
from kinsight.indexing.header import DATA_FILE, FileMark, IndexHeader, Segment, read_header, write_header
from kinsight.indexing.lock import Lock, overtaken
from kinsight.indexing.structures import Structure
from kinsight.indexing.unusable import refuse_unusable
from kinsight.neighbors import Metric
from kinsight.neighbors.vectors import row_norms
from kinsight.partition import Partition


class Generation:
    """Files being written; as a context manager, files that no header came to name are removed again.

    before: header of the generation it follows. lock: under which it is written.
    """

    def __init__(self, lock: Lock, before: IndexHeader | None) -> None:
        self.lock, self.place, self.before = lock, lock.place, before
        place = lock.place
        self.number = 1 + max([before.generation if before else 0, *_numbers(place)])
        self.marks: dict[str, FileMark] = {}
        self._made: list[str] = []
        self._published = False
        self._scratch = None if place.is_local else tempfile.mkdtemp(prefix="kinsight-index-")
        self.folder = place.local_path if self._scratch is None else Path(self._scratch)

    def path(self, name: str) -> Path:
        """Where a file of this generation is written."""
        return self.folder / name

    def write_rows(self, blocks: Iterable[tuple[np.ndarray, pa.Table]], dim: int, metric: Metric) -> Segment | None:
        """Write vectors, lengths and items of consecutive rows, block by block; None where there is no row.

        Raises DataError naming a vector with NaN, infinity, or zero under cosine.
        """
        names = {part: self._name(part, suffix) for part, suffix in _ROW_FILES.items()}
        norms: list[np.ndarray] = []
        items: pa.RecordBatchFileWriter | None = None
        with (
            storage.local_errors(self.folder),
            self.path(names["vectors"]).open("wb") as file,
            self.path(names["items"]).open("wb") as item_file,
        ):
            writer = VectorWriter(file, dim)
            for vector_BD, table in blocks:
                norms.append(_lengths(vector_BD, table, metric))
                writer.add(vector_BD)
                items = items or pa.ipc.new_file(item_file, table.schema)
                items.write_table(table)
            writer.finish()
            if items is not None:
                items.close()
            for part in (file, item_file):
                part.flush()
                os.fsync(part.fileno())
        if not writer.rows:
            return None
        self.write_array(names["norms"], np.concatenate(norms))
        for name in names.values():
            self._mark(name)
        return Segment(rows=writer.rows, **names)

    def write_deleted(self, row_M: np.ndarray) -> str | None:
        """Write the rows that count no more, int64 ascending; None where all do."""
        if not len(row_M):
            return None
        name = self._name("deleted", "npy")
        self.write_array(name, row_M)
        self._mark(name)
        return name

    def write_structure(self, structure: Structure | None) -> str | None:
        """Write graph or lists; None where there are none."""
        if structure is None:
            return None
        name = self._name("structure", "faiss")
        path = self.path(name)
        try:
            structure.save(path)
        except RuntimeError as error:
            raise _not_written(error, path) from None
        with storage.local_errors(path), path.open("rb+") as file:
            os.fsync(file.fileno())
        self._mark(name)
        return name

    def write_partition(self, partition: Partition | None) -> str | None:
        """Write a learned partition; None where there is none."""
        if partition is None:
            return None
        name = self._name("partition", "safetensors")
        with storage.local_errors(self.folder), self.path(name).open("wb") as file:
            file.write(partition.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        self._mark(name)
        return name

    def write_array(self, name: str, array: np.ndarray) -> None:
        """Write an npy file."""
        with storage.local_errors(self.folder), self.path(name).open("wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())

    def publish(self, **fields: Any) -> IndexHeader:
        """Write the header with these fields, and remove files of generations that are over. Gives the header."""
        segments = fields["segments"]
        named = [name for part in segments for name in (part.vectors, part.norms, part.items)]
        single = (fields["structure_file"], fields.get("partition_file"), fields["deleted_file"])
        named += [name for name in single if name is not None]
        known = self.marks | (self.before.files if self.before else {}) | self.marks
        header = IndexHeader(
            kinsight=__version__,
            generation=self.number,
            files={name: known[name] for name in named},
            previous=tuple(self.before.files) if self.before else (),
            written=datetime.now(UTC).isoformat(timespec="seconds"),
            **fields,
        )
        self.lock.check()
        for name in self.marks:
            if self._scratch is not None:
                storage.upload_file(self.path(name), self.place.child(name))
        self._refuse_overtaken()
        write_header(self.place, header)
        self._published = True
        self._clean(header)
        return header

    def _refuse_overtaken(self) -> None:
        """Where locks are only a convention, a writer that was taken for lost may come back."""
        self.lock.check()
        try:
            found = read_header(self.place).generation
        except KinsightError:
            return  # there is none, or none that counts
        if found != (self.before.generation if self.before else 0) and found >= self.number:
            raise overtaken(self.place)

    def _clean(self, header: IndexHeader) -> None:
        keep = {*header.files, *header.previous}
        for entry in storage.list_files(self.place, recursive=False):
            if DATA_FILE.fullmatch(entry.relative) and entry.relative not in keep:
                storage.remove(self.place.child(entry.relative))

    def _name(self, part: str, suffix: str) -> str:
        # in object storage two writers may be at work, one of them taken for lost: neither writes over the other's
        writer = "" if self._scratch is None else f"-{self.lock.token}"
        name = f"{part}-g{self.number:06d}{writer}.{suffix}"
        self._made.append(name)
        return name

    def _mark(self, name: str) -> None:
        self.marks[name] = mark_of(self.path(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clean_up()
        if isinstance(error, StorageError) and error.code == "storage.full" and not self._published:
            raise self._full(error) from None

    def _full(self, error: StorageError) -> StorageError:
        """The same with what a user wants to know next."""
        room = self.place.local_path if self._scratch is None else Path(tempfile.gettempdir())
        message = error.message
        with suppress(OSError):
            free = shutil.disk_usage(room).free / 1e6
            message += f"; {free:,.1f} MB are free there, now that what was begun is removed"
        if self.before is not None:
            message += "; the index is as it was before"
        return StorageError(error.code, message, field=error.field, remedy=error.remedy)

    def _clean_up(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        elif not self._published:
            for name in self._made:
                storage.remove(self.place.child(name))
        else:
            for name in [name for name in self._made if name not in self.marks]:
                storage.remove(self.place.child(name))


_ROW_FILES = {"vectors": "npy", "norms": "npy", "items": "arrow"}


def _not_written(error: RuntimeError, path: Path) -> KinsightError:
    """What faiss says of a file it could not write, in the words of all other files."""
    text = str(error)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(number) in text:
            return storage.local_error(OSError(number, os.strerror(number)), path)
    return RunError(
        "index.not-written", f"{path}: could not be written", remedy="see that the disk has room, and works"
    )


def _numbers(place: storage.Address) -> list[int]:
    if not storage.is_directory(place):
        return []
    found = [DATA_FILE.fullmatch(entry.relative) for entry in storage.list_files(place, recursive=False)]
    return [int(match[2]) for match in found if match is not None]


def _lengths(vector_BD: np.ndarray, table: pa.Table, metric: Metric) -> np.ndarray:
    """float64 lengths; the faults are named by the item, which `row_norms` does not know."""
    refuse_unusable(vector_BD, table, metric)
    return row_norms(torch.from_numpy(np.ascontiguousarray(vector_BD)), "embeddings", metric).numpy()
