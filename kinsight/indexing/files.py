"""Files of an index: written once under a generation's name, read only as they were written."""

import hashlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import storage
from kinsight.errors import DataError, StorageError
from kinsight.indexing.header import FileMark
from kinsight.indexing.untyped import faiss

_CHUNK = 2**22


class Gone(Exception):
    """A file that the header names is not there: a newer generation has replaced it, or it was lost."""


class VectorWriter:
    """Writes float32 rows to an npy file whose number of rows is known only at the end."""

    def __init__(self, file: IO[bytes], dim: int) -> None:
        self._file, self._dim, self.rows = file, dim, 0
        self._header()

    def add(self, vector_BD: np.ndarray) -> None:
        """Append rows."""
        self._file.write(np.ascontiguousarray(vector_BD, "<f4").data)
        self.rows += len(vector_BD)

    def finish(self) -> None:
        """Put the number of rows into the file's head."""
        self._file.seek(0)
        self._header()
        self._file.seek(0, 2)

    def _header(self) -> None:
        # numpy leaves room for the first axis to grow, so both headers have one length
        fields = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self._dim)}
        np.lib.format.write_array_header_1_0(self._file, fields)


def mark_of(path: Path) -> FileMark:
    """Size and SHA-256 of a local file."""
    with storage.local_errors(path), path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return FileMark(size=file.tell(), sha256=digest.hexdigest())


def fetch(place: storage.Address, name: str, mark: FileMark) -> Path:
    """A local path of a file that is as the header says. Raises Gone, DataError for an altered one."""
    address = place.child(name)
    try:
        path = storage.copy_in(address)
        found = mark_of(path)
    except StorageError as error:
        if error.code == "storage.not-found":
            raise Gone(name) from error
        raise
    if found.size != mark.size:
        raise altered(address, f"has {found.size:,} bytes, {mark.size:,} were written: truncated or altered")
    if found.sha256 != mark.sha256:
        raise altered(address, "holds other bytes than were written (SHA-256 differs)")
    return path


def open_npy(path: Path, dtype: type[np.generic], *shape: int) -> Tensor:
    """A memory-mapped array of this type and shape. Raises Gone, DataError."""
    try:
        # Copy on write: torch wants memory it may write to, and nobody does.
        array: Any = np.load(path, mmap_mode="c" if shape[0] else None, allow_pickle=False)
    except FileNotFoundError:
        raise Gone(path.name) from None
    except (ValueError, EOFError, OSError) as error:
        raise altered(path, f"is no npy file ({error})") from None
    if array.dtype != dtype or array.shape != shape:
        raise altered(path, f"is {array.dtype} {array.shape}; {np.dtype(dtype)} {shape} was written")
    return torch.from_numpy(array)


def open_items(path: Path) -> pa.Table:
    """A memory-mapped table. Raises Gone, DataError."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except FileNotFoundError:
        raise Gone(path.name) from None
    except (pa.ArrowException, OSError) as error:
        raise altered(path, f"is no Arrow file ({error})") from None


def open_structure(path: Path, *, mapped: bool = False) -> Any:
    """What faiss wrote; mapped: its lists stay in the file. Raises Gone, DataError."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        if not path.exists():
            raise Gone(path.name) from None
        raise altered(path, f"faiss cannot read it: {str(error).splitlines()[0]}") from None


def altered(place: storage.Address | Path, what: str) -> DataError:
    """The error for a file that is not as it was written."""
    return DataError(
        "index.altered", what, field=str(place), remedy="copy the index again from where it is whole, or build it again"
    )
