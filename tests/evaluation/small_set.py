"""A small set of pictures with classes that any network tells apart, and a small model bundle."""

from pathlib import Path

import numpy as np
from PIL import Image

from kinsight.models import build_network, make_header, save_bundle
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec

NAMES = ("cat", "dog, big", "<b>Ölpumpe</b>", "鞋 子", "the &amp; x", "zebra")
PER_CLASS = 5


def picture(label: int, number: int, side: int = 24) -> np.ndarray:
    """uint8 (side, side, 3): the class's own pattern, with noise of the image's own."""
    coarse = np.random.default_rng(label).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    pattern = np.kron(coarse, np.ones((side // 4, side // 4, 1), np.uint8)).astype(np.int64)
    noise = np.random.default_rng([label, number]).integers(-230, 231, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, classes: range, numbers: range) -> list[tuple[str, int]]:
    """PNGs `<label>/<number>.png` below the folder; (relative path, label) of each."""
    lines = []
    for label in classes:
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.fromarray(picture(label, number)).save(folder / str(label) / f"{number}.png")
            lines.append((f"{label}/{number}.png", label))
    return lines


def write_list(path: Path, lines: list[tuple[str, object]]) -> Path:
    path.write_text("".join(f"{image}\t{label}\n" for image, label in lines), encoding="utf-8")
    return path


def make_bundle(folder: Path, *, seed: int, embedding_dim: int = 12) -> Path:
    model = ModelSpec(backbone="conv4", pretrained=None, embedding_dim=embedding_dim)
    image = ImageSpec(image_size=16, crop=1.0)
    net = build_network(model, image=image, seed=seed).eval()
    save_bundle(folder, net, make_header(net, model=model, image=image))
    return folder
