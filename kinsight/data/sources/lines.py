"""A text file of any size as blocks of Arrow strings: no Python object per line, memory bounded by the block."""

import codecs
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from kinsight import storage
from kinsight.data.arrow import pc
from kinsight.data.sources.sniff import binary_kind
from kinsight.errors import DataError
from kinsight.storage import Address

BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class ListFile:
    """A list that is there and is a file. name: what messages call it. path: a local copy of it."""

    name: str
    path: Path

    def place(self, line: int) -> str:
        return f"{self.name}:{line}"


@dataclass(frozen=True)
class Lines:
    """Lines of a block that are neither blank nor comments, without white space around them.

    line_N: int32, 1-based numbers in the file.
    """

    text_N: pa.Array
    line_N: np.ndarray


def find_list(address: str) -> ListFile:
    """The list at `address`. Raises DataError if nothing or a directory is there, StorageError if it can't be had."""
    parsed = Address.parse(address)
    if storage.stat(parsed) is None:
        raise _directory(parsed) if storage.is_directory(parsed) else _missing(parsed)
    return ListFile(str(parsed), storage.copy_in(parsed))


def read_lines(file: ListFile, *, comments: bool = True) -> Iterator[Lines]:
    """The non-blank lines; with `comments`, lines that begin with `# ` or `##` are left out.

    Line ends are LF, CRLF or CR; a byte order mark is skipped. Raises DataError where the file is not UTF-8 text.
    """
    line = 1
    for data in _whole_lines(file):
        _check_text(file, data, line)
        text_N = _split_lines(data)
        kept = _kept(text_N, comments)
        line_N = np.flatnonzero(kept).astype(np.int32) + np.int32(line)
        line += len(text_N)
        if line_N.size:
            yield Lines(text_N if line_N.size == len(text_N) else text_N.filter(pa.array(kept)), line_N)


def empty_list(file: ListFile) -> DataError:
    size = file.path.stat().st_size
    what = "holds only blank lines and comments" if size else "is empty"
    return DataError("data.list-empty", f"{what}; at least one image is needed", field=file.name, remedy="fill it")


def _whole_lines(file: ListFile) -> Iterator[bytes]:
    """Blocks of bytes that end with a line feed."""
    with storage.local_errors(file.path), file.path.open("rb") as stream:
        rest = stream.read(BLOCK_BYTES)
        _refuse_binary(file, rest)
        rest = rest.removeprefix(codecs.BOM_UTF8)
        old_mac = b"\n" not in rest and b"\r" in rest
        while block := stream.read(BLOCK_BYTES):
            rest += block
            if old_mac:
                rest = rest.replace(b"\r", b"\n")
            end = rest.rfind(b"\n") + 1
            if end:
                yield rest[:end]
                rest = rest[end:]
        if rest:
            rest = rest.replace(b"\r", b"\n") if old_mac else rest
            yield rest if rest.endswith(b"\n") else rest + b"\n"


def _split_lines(data: bytes) -> pa.Array:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    raw = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(data))
    return pc.ascii_trim_whitespace(raw)


def _kept(text_N: pa.Array, comments: bool) -> np.ndarray:
    kept = pc.binary_length(text_N).to_numpy(zero_copy_only=False) > 0
    if comments and (marked := pc.starts_with(text_N, "#")).true_count:
        comment = pc.and_(marked, pc.match_substring_regex(text_N, r"^#(?:[#\s]|$)"))
        kept &= ~comment.to_numpy(zero_copy_only=False)
    return kept


def _check_text(file: ListFile, data: bytes, first_line: int) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise DataError(
            "data.list-encoding",
            f"is not UTF-8 (byte 0x{data[error.start]:02x})",
            field=file.place(line),
            remedy="save the list as UTF-8, for example: iconv -f GB18030 -t UTF-8 OLD > NEW",
        ) from None
    if (at := data.find(0)) >= 0:
        raise _binary(file, "holds zero bytes", first_line + data.count(b"\n", 0, at))


def _refuse_binary(file: ListFile, head: bytes) -> None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("data.list-encoding", "is UTF-16", field=file.name, remedy="save the list as UTF-8")
    if kind := binary_kind(head):
        raise _binary(file, f"is {kind}", None)


def _binary(file: ListFile, what: str, line: int | None) -> DataError:
    remedy = "set `format: parquet`" if "Parquet" in what else "name the text file that lists the images"
    remedy = "set `format: tfrecord`" if ".tfrec" in file.name.lower() else remedy
    where = file.name if line is None else file.place(line)
    return DataError("data.list-binary", f"{what}, not a text file", field=where, remedy=remedy)


def _directory(address: Address) -> DataError:
    return DataError(
        "data.list-is-directory",
        "is a directory where a list file is needed",
        field=str(address),
        remedy="name the list inside it, or set `format: folder` if its directories are the classes",
    )


def _missing(address: Address) -> DataError:
    near: list[str] = []
    if ".tfrec" in address.name.lower():
        hint = "set `format: tfrecord`"
        return DataError("data.list-missing", "there is no such list", field=str(address), remedy=hint)
    if address.is_local and address.parent.local_path.is_dir():
        names = [path.name for path in address.parent.local_path.iterdir()]
        near = difflib.get_close_matches(address.name, names, n=1)
    hint = f"did you mean {address.local_path.with_name(near[0])}?" if near else "check the address"
    return DataError("data.list-missing", "there is no such list", field=str(address), remedy=hint)
