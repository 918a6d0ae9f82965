"""The framing of a TFRecord file: `uint64 length, uint32 masked CRC32C of length, data, uint32 masked CRC32C of data`,
all little-endian, one record after the other without a header.
"""

import struct
from collections.abc import Callable, Iterator

import google_crc32c

from kinsight.errors import DataError

HEAD_BYTES, FOOT_BYTES = 12, 4
_HEAD, _LENGTH, _CRC = struct.Struct("<QI"), struct.Struct("<Q"), struct.Struct("<I")
_MASK = 0xA282EAD8
CHUNK_BYTES = 1 << 20  # small enough to stay in a processor's cache
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x78\x01": "zlib", b"\x78\x9c": "zlib", b"\x78\xda": "zlib"}


Readable = Callable[[int, int], bytes]
"""(start, length) -> the bytes of a file from start on, fewer past its end."""


def masked_crc(data: bytes) -> int:
    """CRC32C, rotated and shifted, so that checksums of data that hold checksums stay good ones."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record as it stands in a file."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, _CRC.pack(masked_crc(length)), data, _CRC.pack(masked_crc(data))))


def read_frames(
    read: Readable, name: str, *, start: int = 0, stop: int, first: int = 0, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[int, bytes]]:
    """(byte where the data begins, data) of the records between bytes `start` and `stop`, where records begin and end.

    name: of the file, for messages. first: number of the first record. chunk_bytes: how much is read at once.
    Raises DataError naming file, record and byte where the file is damaged or none.
    """
    window, window_at, at, number = b"", start, start, first
    while at < stop:
        place = at - window_at
        if len(window) - place < HEAD_BYTES:
            # Read again what is left of the window: less work than joining it with what follows.
            window, window_at, place = read(at, min(max(chunk_bytes, HEAD_BYTES), stop - at)), at, 0
        if len(window) - place < HEAD_BYTES:
            raise _truncated(name, number, at, f"{stop - at} bytes of its {HEAD_BYTES} byte head")
        length, length_crc = _HEAD.unpack_from(window, place)
        if masked_crc(window[place : place + 8]) != length_crc:
            raise _no_head(name, number, at, window[:64])
        size = HEAD_BYTES + length + FOOT_BYTES
        if at + size > stop:
            raise _truncated(name, number, at, f"{stop - at:,} of its {size:,} bytes")
        if place + size > len(window):
            window, window_at, place = read(at, min(max(chunk_bytes, size), stop - at)), at, 0
            if size > len(window):
                raise _truncated(name, number, at, f"{len(window):,} of its {size:,} bytes")
        end = place + size - FOOT_BYTES
        data = window[place + HEAD_BYTES : end]
        if masked_crc(data) != _CRC.unpack_from(window, end)[0]:
            raise _damaged(name, number, at, "its data does not match its checksum")
        yield at + HEAD_BYTES, data
        at += size
        number += 1


def compression_of(head: bytes) -> str | None:
    """The compression that a file beginning with `head` has, by its magic number."""
    return _COMPRESSED.get(head[:2])


def _no_head(name: str, number: int, at: int, head: bytes) -> DataError:
    if at:
        return _damaged(name, number, at, "the checksum of its length is wrong")
    if kind := compression_of(head):
        target = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.unpacked"
        return DataError(
            "data.tfrecord-compressed",
            f"is {kind}-compressed: images inside cannot be read in any order",
            field=name,
            remedy=f"unpack it first: gzip -dc {name} > {target}" if kind == "gzip" else "unpack it first",
        )
    return DataError(
        "data.tfrecord",
        "is no TFRecord file, or its first record (0, byte 0) is damaged: the checksum of its length is wrong",
        field=name,
        remedy="check the address, or set the format the file has",
    )


def _truncated(name: str, number: int, at: int, there: str) -> DataError:
    return _damaged(name, number, at, f"the file ends within it, after {there}")


def _damaged(name: str, number: int, at: int, what: str) -> DataError:
    return DataError(
        "data.tfrecord-damaged",
        f"record {number}, which begins at byte {at:,}: {what}",
        field=name,
        remedy="copy the file again, or write it anew",
    )
