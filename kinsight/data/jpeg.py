"""The quick road for ordinary JPEG files: size and orientation from the header, then the rows and the scale needed.

Baseline, extended and progressive files of 8 bits with one or three components. Everything else (CMYK, lossless,
damaged headers) is left to Pillow's general road. `simplejpeg` does the work where it is installed, Pillow otherwise:
both are libjpeg-turbo with its default settings, so that changes the speed and no bit of the result.
"""

import io
import struct
import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None  # type: ignore[assignment]

_SCAN, _EXIF, _ORIENTATION = 0xDA, 0xE1, 0x0112
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_RARE_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_CONTEXT_ROWS = 4  # that smoothing of colour at half resolution looks at below the last row wanted
_END = b"\xff\xd9"
_TRAILER_BYTES = 1024  # that may follow the end marker


class JpegHeader(NamedTuple):
    """Stored width and height in pixels, and the EXIF orientation, 1 to 8 (1: upright).

    frame: place of the frame marker. in_rows: all of a row comes before the next one, in a single scan.
    """

    width: int
    height: int
    orientation: int
    frame: int
    in_rows: bool


def read_header(data: bytes | bytearray) -> JpegHeader | None:
    """The header of an ordinary JPEG file; None for anything else."""
    if data[:2] != b"\xff\xd8":
        return None
    place, orientation, frame, end = 2, 1, 0, len(data)
    while place + 9 < end and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        length = data[place + 2] << 8 | data[place + 3]
        if marker == _SCAN:
            return _header(data, frame, orientation, scan_components=data[place + 4]) if frame else None
        if marker in _RARE_FRAMES or length < 2:
            return None
        if marker in _BASELINE or marker == _PROGRESSIVE:
            frame = place
        elif marker == _EXIF and data[place + 4 : place + 10] == b"Exif\0\0":
            orientation = _orientation(memoryview(data)[place + 10 : place + 2 + length])
        place += 2 + length
    return None


def decode(
    data: bytes | bytearray, header: JpegHeader, *, scale: int, bottom: int, channels: int
) -> npt.NDArray[np.uint8]:
    """Pixels at 1/scale (1, 2, 4 or 8), at least the first `bottom` rows of them: uint8 (rows, width, channels).

    Sizes are rounded up. Raises what the decoders raise on damaged data.
    """
    rows = (bottom + _CONTEXT_ROWS) * scale
    ended = data.find(_END, max(0, len(data) - _TRAILER_BYTES)) >= 0
    if ended and header.in_rows and rows < header.height:
        # A shorter picture is announced, so the decoder stops early.
        data = bytearray(data)
        struct.pack_into(">H", data, header.frame + 5, rows)
    else:
        rows = header.height
    # Only Pillow tells a truncated file from one with a blemish.
    decoder = _with_simplejpeg if simplejpeg is not None and ended else _with_pillow
    pixels = decoder(data, scale, -(-header.width // scale), -(-rows // scale), channels)
    assert pixels.shape == (-(-rows // scale), -(-header.width // scale), channels), (pixels.shape, header, rows, scale)
    return pixels


def _with_simplejpeg(
    data: bytes | bytearray, scale: int, width: int, height: int, channels: int
) -> npt.NDArray[np.uint8]:
    assert simplejpeg is not None
    least = {"min_width": width, "min_height": height} if scale > 1 else {}
    return simplejpeg.decode_jpeg(data, "GRAY" if channels == 1 else "RGB", strict=False, **least)


def _with_pillow(data: bytes | bytearray, scale: int, width: int, height: int, channels: int) -> npt.NDArray[np.uint8]:
    mode = "L" if channels == 1 else "RGB"
    with quiet(), Image.open(io.BytesIO(data), formats=("JPEG", "MPO")) as image:
        if image.size != (width, height) or image.mode != mode:
            image.draft(mode, (image.width // scale, image.height // scale))
        return np.atleast_3d(np.array(image.convert(mode)))


def quiet() -> warnings.catch_warnings:
    """Silences Pillow's remarks on odd metadata, which would come once per image."""
    return warnings.catch_warnings(action="ignore")


def _header(data: bytes | bytearray, frame: int, orientation: int, *, scan_components: int) -> JpegHeader | None:
    bits, height, width, components = struct.unpack_from(">BHHB", data, frame + 4)
    if bits != 8 or components not in (1, 3) or not width or not height:
        return None
    in_rows = data[frame + 1] != _PROGRESSIVE and scan_components == components
    return JpegHeader(width, height, orientation, frame, in_rows)


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
