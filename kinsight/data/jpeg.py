"""The quick road for ordinary JPEG files: size and orientation from the header, pixels at the scale that is needed.

Baseline, extended and progressive files of 8 bits with one or three components. Everything else (CMYK, lossless,
damaged headers) is left to Pillow. All decoders here are libjpeg-turbo with its default settings, so which of them
runs changes the speed and no bit of the result.
"""

import io
import struct
from typing import NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

_START, _SCAN, _EXIF, _ORIENTATION = 0xD8, 0xDA, 0xE1, 0x0112
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive; the further ones are rare processes
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))


class JpegHeader(NamedTuple):
    """Stored width and height in pixels, and the EXIF orientation, 1 to 8 (1: upright)."""

    width: int
    height: int
    orientation: int


def read_header(data: bytes | bytearray) -> JpegHeader | None:
    """The header of an ordinary JPEG file; None for anything else."""
    if data[:2] != b"\xff\xd8":
        return None
    place, orientation, end = 2, 1, len(data)
    while place + 9 < end and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        length = data[place + 2] << 8 | data[place + 3]
        if marker in _FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", data, place + 4)
            ordinary = bits == 8 and components in (1, 3) and width and height
            return JpegHeader(width, height, orientation) if ordinary else None
        if marker in _OTHER_FRAMES or marker == _SCAN or length < 2:
            return None
        if marker == _EXIF and data[place + 4 : place + 10] == b"Exif\0\0":
            orientation = _orientation(memoryview(data)[place + 10 : place + 2 + length])
        place += 2 + length
    return None


def _orientation(tiff: memoryview) -> int:
    """The orientation tag of an EXIF block's first directory; 1 where there is none or the block is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def decode_full(data: bytes | bytearray, *, channels: int) -> torch.Tensor:
    """All pixels, uint8 (h, w, channels). Raises RuntimeError on damaged data."""
    writable = data if isinstance(data, bytearray) else bytearray(data)
    mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
    pixels_CHW = cast(torch.Tensor, decode_jpeg(torch.frombuffer(writable, dtype=torch.uint8), mode=mode))
    return pixels_CHW.permute(1, 2, 0)


def decode_reduced(data: bytes | bytearray, scale: int, *, channels: int) -> torch.Tensor:
    """All pixels at 1/scale, rounded up: uint8 (h, w, channels). scale: 2, 4 or 8. Raises what Pillow raises."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "MPO")) as image:
        width, height = image.size
        image.draft("L" if channels == 1 else "RGB", (width // scale, height // scale))
        assert image.size == (-(-width // scale), -(-height // scale)), (image.size, width, height, scale)
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(np.atleast_3d(pixels))
