"""A miniature of Stanford Online Products: its lists, its folders, its numbering, with drawn photographs."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SUPER_CLASSES = ("bicycle", "cabinet", "chair")
HEADER = "image_id class_id super_class_id path"


def write_miniature(
    folder: Path, *, train_classes: int = 9, test_classes: int = 6, each: int = 4, seed: int = 0
) -> Path:
    """The folder `Stanford_Online_Products`: classes are numbered from 1, those of the test list after the others.

    Super-classes come round; the pictures of one share a background, those of a class two shapes, from other angles.
    """
    random = np.random.default_rng(seed)
    number = 0
    for part, first, classes in (("train", 1, train_classes), ("test", train_classes + 1, test_classes)):
        lines = [HEADER]
        for class_id in range(first, first + classes):
            super_id = (class_id - 1) % len(SUPER_CLASSES)
            directory = f"{SUPER_CLASSES[super_id]}_final"
            (folder / directory).mkdir(parents=True, exist_ok=True)
            look = random.integers(0, 256, (2, 3)), random.uniform(0.25, 0.75, (2, 2)), random.uniform(0.1, 0.3, 2)
            for view in range(each):
                number += 1
                path = f"{directory}/{100_000_000_000 + class_id}_{view}.JPG"
                _draw(random, super_id, look).save(folder / path, quality=90)
                lines.append(f"{number} {class_id} {super_id + 1} {path}")
        (folder / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def _draw(random: np.random.Generator, super_id: int, look: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Image.Image:
    width, height = (int(side) for side in random.integers(48, 80, 2))
    image = Image.new("RGB", (width, height), (60 + 60 * super_id, 200 - 50 * super_id, 120))
    pen = ImageDraw.Draw(image)
    for colour, centre, radius in zip(*look, strict=True):
        x, y = (centre + random.normal(0, 0.04, 2)) * (width, height)
        reach = radius * min(width, height) * random.uniform(0.8, 1.2)
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=tuple(int(value) for value in colour))
    return image
