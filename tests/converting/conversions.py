"""Sets of small images to convert."""

import io

import numpy as np
from PIL import Image


def encoded(seed, size=(40, 30), kind="JPEG", mode="RGB", **options):
    """An image of a colour that the seed decides, with noise."""
    rng = np.random.default_rng(seed)
    pixels = (np.full((size[1], size[0], 3), 9 * (seed % 20) + 20) + rng.integers(0, 8, (size[1], size[0], 3))).astype(
        "u1"
    )
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    image = (
        Image.fromarray(np.asarray(image.convert("L")).astype("u2") * 257) if mode == "I;16" else image.convert(mode)
    )
    image.save(stream, kind, **options)
    return stream.getvalue()


def image_set(folder, count=40, classes=4):
    """Images with one or two labels, and the list that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        (folder / f"{i} é.jpg").write_bytes(encoded(i))
        second = f"\tc{(i + 1) % classes}" if i % 5 == 0 else ""
        lines.append(f'"{i} é.jpg"\tc{i % classes}{second}')
    (folder / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.txt"
