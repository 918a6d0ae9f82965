"""Textured pictures, and what can be wrong with them."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kinsight.data.sources.image_list import format_line


def photo(seed: int, *, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """A picture with structure at several scales, in colour."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 24):
        coarse = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        layers += np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), float) / cells
    layers -= layers.min()
    return Image.fromarray((layers / layers.max() * 255).astype(np.uint8))


def drawing(seed: int, *, side: int = 105) -> Image.Image:
    """Strokes on white."""
    from PIL import ImageDraw

    rng = np.random.default_rng(seed)
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        points = rng.integers(side // 8, side - side // 8, (3, 2))
        pen.line([tuple(point) for point in points.tolist()], fill=0, width=3, joint="curve")
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises many pixels and holds none."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class Faulty:
    """A folder of images and a list of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[tuple[str, list[str]]] = []

    def add(self, name: str, data: bytes | None, *labels: str) -> "Faulty":
        if data is not None:
            (self.folder / name).write_bytes(data)
        self.rows.append((name, list(labels)))
        return self

    def plain(self, count: int, *, first: int = 0, classes: int = 3) -> "Faulty":
        for n in range(first, first + count):
            self.add(f"plain{n}.jpg", encoded(photo(n), quality=92), f"class {n % classes}")
        return self

    def list(self, name: str = "list.txt") -> str:
        path = self.folder / name
        path.write_text("".join(format_line(image, labels) + "\n" for image, labels in self.rows))
        return str(path)
