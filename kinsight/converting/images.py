"""One image on its way into another form: looked through, and shrunk if it is too large."""

import io
from typing import NamedTuple

from PIL import Image, ImageOps

from kinsight.data.crops import Crop
from kinsight.data.decode import BrokenImage, decode, known_formats
from kinsight.data.jpeg import quiet
from kinsight.data.thumbnails import eight_bits

_LOOKED_AT = 32  # pixels: every byte is decoded, at the coarsest scale
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
_NAMES = {"MPO": "jpeg"}  # what follows the first picture is another one of the same


class Prepared(NamedTuple):
    """data: the encoded image. format: in small letters, as TFRecords name it. width, height: as stored, in pixels.

    shrunk: whether it was encoded anew.
    """

    data: bytes
    format: str
    ending: str
    width: int
    height: int
    shrunk: bool = False


def prepare(data: bytes, uri: str, max_size: int | None, quality: int) -> Prepared:
    """The image as it is, or with its longer side at `max_size` pixels if that is smaller.

    A shrunk image is upright; it stays PNG or becomes PNG where it is transparent, and is JPEG of `quality` otherwise.
    Raises BrokenImage.
    """
    decode(data, uri, _whole, size=_LOOKED_AT, channels=3)
    try:
        with quiet(), Image.open(io.BytesIO(data), formats=known_formats()) as image:
            kind, (width, height) = str(image.format), image.size
            if max_size is not None and max(width, height) > max_size:
                return _shrunk(image, max_size, quality)
    except Exception as error:  # Pillow's decoders raise whatever they like
        raise BrokenImage(uri, str(error) or type(error).__name__) from error
    return Prepared(data, _NAMES.get(kind, kind.lower()), _ENDINGS.get(kind, kind.lower()), width, height)


def _whole(width: int, height: int) -> Crop:
    return Crop(0, 0, width, height)


def _shrunk(image: Image.Image, max_size: int, quality: int) -> Prepared:
    profile = image.info.get("icc_profile")
    as_png = image.format == "PNG" or image.has_transparency_data
    image.draft("RGB", (2 * max_size, 2 * max_size))
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in ("L", "RGB", "LA", "RGBA") or (not as_png and upright.mode in ("LA", "RGBA")):
        transparent = upright.has_transparency_data
        upright = upright.convert("RGBA") if transparent else Image.fromarray(eight_bits(upright))
        profile = None if image.mode == "CMYK" else profile
    upright.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    kept = {"icc_profile": profile} if profile else {}
    if as_png:
        upright.save(stream, "PNG", **kept)
        return Prepared(stream.getvalue(), "png", "png", *upright.size, True)
    upright.save(stream, "JPEG", quality=quality, **kept)
    return Prepared(stream.getvalue(), "jpeg", "jpg", *upright.size, True)
