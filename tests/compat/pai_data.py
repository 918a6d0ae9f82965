"""A bucket as the page's commands find it: TFRecords of a few pictures, on a local server of S3's protocol."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from kinsight.data.tfrecord import encode_example, frame

BUCKET = "pai-vision-data-sh"


def picture(number: int, side: int = 40) -> bytes:
    """A PNG whose colour says its number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 60, (side, side, 3), dtype=np.uint8)
    pixels[..., number % 3] += np.uint8(120 + 12 * (number % 10))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_records(file: Path, numbers: range, *, several: bool) -> None:
    """One record a number: its class is number % 10; with `several`, its parity's class, 8 or 9, beside it, and of
    every twenty images one shows nothing.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    for number in numbers:
        labels = sorted({number % 10, 8 + number % 2}) if several else [number % 10]
        if several and number % 20 == 13:
            labels = []
        frames.append(frame(example(picture(number), labels)))
    file.write_bytes(b"".join(frames))


def example(image: bytes, labels: list[int]) -> bytes:
    """A message with TF-slim's keys."""
    return encode_example({"image/encoded": image, "image/format": b"png", "image/class/label": labels})
