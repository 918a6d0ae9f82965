"""From a file's bytes to the pixels the network sees, doing no more work than those pixels need.

The crop is chosen from the header. A JPEG whose crop is much larger than the target is decoded at 1/2, 1/4 or 1/8
scale in the frequency domain, at which the crop is still at least as large as the target. Cropping comes before colour
conversion, EXIF rotation after resizing, so both work on few pixels.

Transparent pixels become white: logos and drawings are mostly dark ink on nothing. 16-bit values are scaled to
8 bits, not clipped. Of an animation the first frame counts. The content, not the name, decides what a file is.
"""

import functools
import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from kinsight.data import jpeg
from kinsight.data.crops import ChooseCrop, Crop
from kinsight.errors import DataError

MAX_PIXELS = 178_956_970
"""Larger images are refused from their header. Pillow has the same limit (twice its `MAX_IMAGE_PIXELS`): to raise one,
raise both."""

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

_ORIENTATION_TAG = 0x0112
# EXIF orientation -> swap axes, then mirror left-right, then top-bottom: from stored to upright.
_UPRIGHT = {
    1: (False, False, False), 2: (False, True, False), 3: (False, True, True), 4: (False, False, True),
    5: (True, False, False), 6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip


class BrokenImage(DataError):
    """One image cannot be used. uri: which; reason: why, in a few words."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__("data.broken-image", f"not a usable image: {reason}", field=uri, remedy="replace or remove it")
        self.args = (uri, reason)  # what unpickling calls the constructor with
        self.uri = uri
        self.reason = reason


def decode(data: bytes | bytearray, uri: str, choose: ChooseCrop, *, size: int, channels: int) -> Tensor:
    """The chosen crop of an encoded image, upright, resized with antialiasing: uint8 (channels, size, size).

    The tensor is laid out channels last. uri: for messages. choose: gets the upright image's width and height.
    channels: 3 (RGB) or 1 (luma). Raises BrokenImage, whatever is wrong with the bytes.
    """
    if not data:
        raise BrokenImage(uri, "the file is empty")
    try:
        if (header := jpeg.read_header(data)) is not None:
            return _decode_jpeg(data, header, choose, size=size, channels=channels)
        with jpeg.quiet(), Image.open(io.BytesIO(data), formats=known_formats()) as image:
            return square(image, choose, size=size, channels=channels)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly every type on damaged input
        raise BrokenImage(uri, _reason(error)) from error


def pixel_count(data: bytes | bytearray, uri: str = "image") -> int:
    """Width times height of an encoded image, from its header alone; of one that Pillow refuses to look at for its
    size, one more than the most. Raises BrokenImage.
    """
    if not data:
        raise BrokenImage(uri, "the file is empty")
    try:
        if (header := jpeg.read_header(data)) is not None:
            return header.width * header.height
        with jpeg.quiet(), Image.open(io.BytesIO(data), formats=known_formats()) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        return MAX_PIXELS + 1
    except Exception as error:  # decoders raise nearly every type on damaged input
        raise BrokenImage(uri, _reason(error)) from error


def square(image: Image.Image, choose: ChooseCrop, *, size: int, channels: int) -> Tensor:
    """`decode` for an image that Pillow has opened. Raises what Pillow raises on damaged data."""
    with jpeg.quiet():
        orientation = _orientation(image)
        _check_pixels(*image.size)
        crop, box = _boxes(choose, *image.size, orientation)
        image.load()
        return _finish(_pixels(image, box, channels), crop, orientation, size)


def reduction(box: Crop, size: int) -> int:
    """The largest of 8, 4, 2, 1 by which a decoder may reduce so that the box still covers size x size pixels."""
    shorter = min(box.width, box.height)
    for scale in (8, 4, 2):
        if shorter < scale * size:
            continue
        reduced = reduced_box(box, scale)
        if reduced.width >= size and reduced.height >= size:
            return scale
    return 1


def reduced_box(box: Crop, scale: int) -> Crop:
    """The box on an image decoded at 1/scale: its edges moved to the nearest whole reduced pixels."""
    if scale == 1:
        return box
    left, top = (box.left + scale // 2) // scale, (box.top + scale // 2) // scale
    right, bottom = ((edge + scale // 2) // scale for edge in (box.left + box.width, box.top + box.height))
    return Crop(left, top, right - left, bottom - top)


def _decode_jpeg(
    data: bytes | bytearray, header: jpeg.JpegHeader, choose: ChooseCrop, *, size: int, channels: int
) -> Tensor:
    _check_pixels(header.width, header.height)
    crop, box = _boxes(choose, *header[:3])
    scale = reduction(box, size)
    box = reduced_box(box, scale)
    bottom = box.top + box.height
    pixels_HWC = jpeg.decode(data, header, scale=scale, bottom=bottom, channels=channels)
    part_HWC = torch.from_numpy(pixels_HWC[box.top : bottom, box.left : box.left + box.width])
    return _finish(part_HWC, crop, header.orientation, size)


def _boxes(choose: ChooseCrop, width: int, height: int, orientation: int) -> tuple[Crop, Crop]:
    """The chosen crop in the upright image, and its box in the file's own axes (width x height)."""
    swap, flip_x, flip_y = _UPRIGHT[orientation]
    upright_width, upright_height = (height, width) if swap else (width, height)
    crop = choose(upright_width, upright_height)
    left = upright_width - crop.left - crop.width if flip_x else crop.left
    top = upright_height - crop.top - crop.height if flip_y else crop.top
    box = Crop(top, left, crop.height, crop.width) if swap else Crop(left, top, crop.width, crop.height)
    return crop, box


def _finish(pixels_HWC: Tensor, crop: Crop, orientation: int, size: int) -> Tensor:
    """Resizes, turns upright, mirrors. A copy of the crop in one piece is what the quick resize kernel needs."""
    image_1CHW = pixels_HWC.permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    if image_1CHW.shape[2:] != (size, size):
        image_1CHW = F.interpolate(image_1CHW, (size, size), mode="bilinear", antialias=True)
    swap, flip_x, flip_y = _UPRIGHT[orientation]
    if swap:
        image_1CHW = image_1CHW.transpose(2, 3)
    flips = [axis for axis, flip in ((2, flip_y), (3, flip_x != crop.mirror)) if flip]
    return (image_1CHW.flip(flips) if flips else image_1CHW)[0]


def _pixels(image: Image.Image, box: Crop, channels: int) -> Tensor:
    """The box's pixels, uint8 (h, w, channels)."""
    part = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    part.format = image.format
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_bits(part).expand(-1, -1, channels)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        colour = part.convert("RGBA")
        part = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    return torch.from_numpy(np.atleast_3d(np.array(part.convert("L" if channels == 1 else "RGB"))))


def _eight_bits(image: Image.Image) -> Tensor:
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise ValueError("32-bit pixels have no known range")
    wide = np.asarray(image).astype(np.uint32)
    return torch.from_numpy(((wide * 255 + 32_767) // 65_535).astype(np.uint8))[:, :, None]


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns these upright itself
        return 1
    try:
        found = int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1
    return found if found in _UPRIGHT else 1


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} allowed")


@functools.cache
def known_formats() -> tuple[str, ...]:
    """The formats images may have, those that this Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"none of the known formats ({', '.join(known_formats())})"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS:,} pixels allowed"
    return " ".join(str(error).split()) or type(error).__name__
