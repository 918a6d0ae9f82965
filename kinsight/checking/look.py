"""One look at one image: what its file is, what its pixels are like, and a small picture to find its copies by."""

import io
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from kinsight.data.decode import FORMATS, MAX_PIXELS, BrokenImage
from kinsight.data.jpeg import quiet
from kinsight.data.reading import read_image
from kinsight.errors import StorageError
from kinsight.storage import Address

SMALL = 32  # side of the small picture
HASH_BYTES = 16
BLANK_RANGE = 8
"""Largest difference between the values of a blank image's pixels (of 255): JPEG gives a plain surface up to 3."""

# One bit for each fact that a single image shows.
KINDS = (
    "missing", "broken", "tiny", "huge", "blank", "aspect", "deep", "cmyk", "rotated", "animated", "transparent",
    "suffix",
)  # fmt: skip
BIT = {name: 1 << place for place, name in enumerate(KINDS)}
UNUSABLE = BIT["missing"] | BIT["broken"]

LOOK = np.dtype(
    [
        ("flags", "<u4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("bytes", "<i8"),
        ("file_hash", f"V{HASH_BYTES}"),
        ("pixel_hash", f"V{HASH_BYTES}"),
    ]
)
"""Facts of one image. flags: bits of KINDS; width, height: upright, in pixels; bytes: size of the file."""

_SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "MPO": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "PNG": ("png", "apng"),
    "GIF": ("gif",),
    "WEBP": ("webp",),
    "BMP": ("bmp", "dib"),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "JPEG2000": ("jp2", "j2k", "jpx", "j2c", "jpc", "jpf"),
    "AVIF": ("avif", "avifs"),
}
_KNOWN_SUFFIXES = {suffix for suffixes in _SUFFIXES.values() for suffix in suffixes}


@dataclass(frozen=True)
class Limits:
    """tiny: shorter side in pixels; huge: pixels; aspect: longer side over shorter side."""

    tiny: int
    huge: float
    aspect: float


class Look(NamedTuple):
    """facts: LOOK, without dimensions. small: uint8 (SMALL, SMALL), luma of the whole image squeezed; zeros where
    unusable. reason: why it is unusable, what is odd about its coding, or nothing.
    """

    facts: np.ndarray
    small: npt.NDArray[np.uint8]
    reason: str


def look(uri: str, limits: Limits) -> Look:
    """Read and decode the whole image at `uri`. Raises StorageError where none can be had."""
    facts = np.zeros((), LOOK)
    blank = np.zeros((SMALL, SMALL), np.uint8)
    try:
        data = read_image(uri)
    except BrokenImage as error:
        absent = isinstance(error.__cause__, StorageError) and error.__cause__.code == "storage.not-found"
        facts["flags"] = BIT["missing" if absent else "broken"]
        return Look(facts, blank, error.reason)
    facts["bytes"] = len(data)
    facts["file_hash"] = _digest(data)
    try:
        small, notes = _decoded(data, uri, limits, facts)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly every type on damaged input
        facts["flags"] |= BIT["broken"]
        return Look(facts, blank, _reason(error, data))
    return Look(facts, small, notes)


def upright(data: bytes) -> Image.Image:
    """The decoded image as training sees it, mode L or RGB. Raises what Pillow raises, ValueError."""
    with quiet(), Image.open(io.BytesIO(data), formats=_formats()) as image:
        return _upright(image)


def _decoded(data: bytes, uri: str, limits: Limits, facts: np.ndarray) -> tuple[npt.NDArray[np.uint8], str]:
    with quiet(), Image.open(io.BytesIO(data), formats=_formats()) as image:
        facts["width"], facts["height"] = image.size
        coding, notes = _coding(image, uri)
        facts["flags"] |= coding
        picture = _upright(image)
    width, height = picture.size
    facts["width"], facts["height"] = width, height
    pixels = np.asarray(picture)
    facts["pixel_hash"] = _digest(np.array([*pixels.shape], "<i4").tobytes() + pixels.tobytes())
    for name, found in (
        ("tiny", min(width, height) < limits.tiny),
        ("huge", width * height > limits.huge),
        ("aspect", max(width, height) > limits.aspect * min(width, height)),
        ("blank", _is_blank(pixels)),
    ):
        if found:
            facts["flags"] |= BIT[name]
    return squeezed(picture.convert("L"), SMALL), notes


def squeezed(picture: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """The whole picture as a square, antialiased: uint8 (side, side), or with three channels."""
    return np.asarray(picture.resize((side, side), Image.Resampling.HAMMING, reducing_gap=3.0))


def _upright(image: Image.Image) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS:,} allowed")
    image.load()
    turned = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        if image.mode == "I" and image.format not in ("PNG", "PPM"):
            raise ValueError("32-bit pixels have no known range")
        wide = np.asarray(turned).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        colour = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    return turned.convert("L" if turned.mode in ("1", "L") else "RGB")


def _coding(image: Image.Image, uri: str) -> tuple[int, str]:
    """Flags of the way the image is coded, and what is to be said about it."""
    flags, notes = 0, []
    if image.mode == "I" or image.mode.startswith("I;16"):
        flags |= BIT["deep"]
        notes.append("16 bits")
    if image.mode == "CMYK":
        flags |= BIT["cmyk"]
        notes.append("CMYK")
    if image.format != "TIFF" and (orientation := _orientation(image)) != 1:
        flags |= BIT["rotated"]
        notes.append(f"EXIF orientation {orientation}")
    frames = getattr(image, "n_frames", 1) if image.format not in ("MPO", "TIFF") else 1
    if frames > 1:
        flags |= BIT["animated"]
        notes.append(f"{frames} frames")
    if image.has_transparency_data and _see_through(image):
        flags |= BIT["transparent"]
        notes.append("transparent")
    suffix = Address.parse(uri).name.rpartition(".")[2].lower() if "://" in uri else uri.rpartition(".")[2].lower()
    if suffix in _KNOWN_SUFFIXES and suffix not in _SUFFIXES[image.format or ""]:
        flags |= BIT["suffix"]
        notes.append(f"{image.format} named .{suffix}")
    return flags, ", ".join(notes)


def _see_through(image: Image.Image) -> bool:
    """Whether any pixel really is transparent: many opaque images carry an alpha channel."""
    alpha = image.convert("RGBA").getchannel("A")
    return alpha.getextrema()[0] < 255  # type: ignore[operator]


def _orientation(image: Image.Image) -> int:
    try:
        found = int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1
    return found if 1 <= found <= 8 else 1


def _is_blank(pixels: npt.NDArray[np.uint8]) -> bool:
    channels = pixels.reshape(-1, pixels.shape[2]) if pixels.ndim == 3 else pixels.reshape(-1, 1)
    return bool((channels.max(0).astype(int) - channels.min(0) <= BLANK_RANGE).all())


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=HASH_BYTES).digest()


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _reason(error: Exception, data: bytes) -> str:
    if not data:
        return "the file is empty"
    if type(error).__name__ == "UnidentifiedImageError":
        return "none of the known formats"
    return " ".join(str(error).split()) or type(error).__name__
