"""Whatever is wrong with a file: one error, with its address and a reason, and no work done on it."""

import io
import pickle
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from kinsight.data import jpeg
from kinsight.data.crops import Crop
from kinsight.data.decode import BrokenImage, decode
from kinsight.errors import DataError


def whole(width, height):
    return Crop(0, 0, width, height)


def photo(kind="JPEG", size=(320, 240)):
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


def png_header(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_header(width, height):
    data = bytearray(photo())
    header = jpeg.read_header(data)
    struct.pack_into(">HH", data, header.frame + 5, height, width)
    return bytes(data)


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"this is not an image\n" * 100, "known formats"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "known formats"),
    "one byte": (b"\xff", "known formats"),
    "only a JPEG's start": (b"\xff\xd8\xff\xe0", ""),
    "truncated JPEG": (photo()[:-5000], "truncated"),
    "JPEG cut in its header": (photo()[:200], ""),
    "truncated PNG": (photo("PNG")[:-5000], ""),
    "truncated WebP": (photo("WEBP")[:-5000], ""),
    "truncated GIF": (photo("GIF")[:-5000], "truncated"),
    "PNG bomb": (png_header(50_000, 50_000), "pixels"),
    "JPEG bomb": (jpeg_header(50_000, 50_000), "50000 x 50000"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("without", [False, True])
def test_broken_images(name, without, monkeypatch):
    if without:
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    data, reason = BROKEN[name]
    started = time.process_time()
    with pytest.raises(BrokenImage) as caught:
        decode(data, "some/where.jpg", whole, size=32, channels=3)
    assert time.process_time() - started < 2  # a bomb is refused, not unpacked
    error = caught.value
    assert isinstance(error, DataError)
    assert error.code == "data.broken-image"
    assert error.uri == error.field == "some/where.jpg"
    assert reason in error.reason
    assert "some/where.jpg" in str(error)


def test_a_truncated_jpeg_is_broken_even_where_the_crop_is_whole():
    for keep in (0.5, 0.9):
        data = photo()
        with pytest.raises(BrokenImage):
            decode(data[: int(len(data) * keep)], "x", lambda w, h: Crop(0, 0, 64, 32), size=32, channels=3)


def test_the_content_decides_not_the_name():
    assert decode(photo("PNG"), "picture.jpg", whole, size=32, channels=3).shape == (3, 32, 32)


def test_floating_point_pixels_are_refused():
    out = io.BytesIO()
    Image.fromarray(np.ones((20, 20), np.float32)).save(out, "TIFF")
    with pytest.raises(BrokenImage, match="floating-point"):
        decode(out.getvalue(), "x", whole, size=16, channels=1)


def test_damage_of_any_kind_raises_nothing_else():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        data = photo(kind, (64, 48))
        for _ in range(60):
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(data), 700), 4):
                damaged[place] = rng.integers(0, 256)
            try:
                decode(bytes(damaged), "x", whole, size=16, channels=3)
            except BrokenImage as error:
                assert error.reason


def test_the_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(BrokenImage("a/b.jpg", "truncated")))
    assert (error.uri, error.reason, error.code, error.field) == (
        "a/b.jpg",
        "truncated",
        "data.broken-image",
        "a/b.jpg",
    )
