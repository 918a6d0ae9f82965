"""Images as people look at them, small: upright, in eight bits, on white where they are transparent."""

import io

import numpy as np
from PIL import Image, ImageOps

from kinsight.data.decode import BrokenImage, known_formats
from kinsight.data.jpeg import quiet
from kinsight.data.reading import read_image

_JPEG_QUALITY = 82
_LOSSLESS_SIDE = 64  # pixels: below, drawings and symbols are smaller and sharper as PNG


def thumbnail(uri: str, side: int) -> np.ndarray:
    """The image at `uri`, uint8, HxW (grey) or HxWx3, both at most `side` pixels, never enlarged.

    Raises BrokenImage for one that cannot be had, StorageError where none can.
    """
    return thumbnail_of(read_image(uri), side, uri=uri)


def thumbnail_of(data: bytes, side: int, *, uri: str = "") -> np.ndarray:
    """`thumbnail` of an encoded image. Raises BrokenImage."""
    try:
        with quiet(), Image.open(io.BytesIO(data), formats=known_formats()) as image:
            image.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((side, side))
            return eight_bits(upright)
    except Exception as error:  # Pillow's decoders raise whatever they like
        raise BrokenImage(uri, str(error) or type(error).__name__) from error


def encoded(image: np.ndarray) -> tuple[bytes, str]:
    """A small image (uint8, HxW or HxWx3) as a file's bytes, and its media type."""
    picture, stream = Image.fromarray(image), io.BytesIO()
    if max(picture.size) <= _LOSSLESS_SIDE:
        picture.save(stream, "PNG", optimize=True)
        return stream.getvalue(), "image/png"
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return stream.getvalue(), "image/jpeg"


def eight_bits(image: Image.Image) -> np.ndarray:
    """An image of any mode as uint8, HxW (grey) or HxWx3, on white where it is transparent."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return (np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8)
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
