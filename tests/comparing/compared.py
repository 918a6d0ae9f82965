"""Small image sets and comparisons over them that take seconds."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Tree = dict[str, Any]


def draw_images(folder: Path, *, classes: int, each: int, seed: int) -> Path:
    """Noisy squares of `classes` patterns, in super-classes of three; the path of their CSV file."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = ["image,label,family"]
    for label in range(classes):
        pattern = np.kron(random.integers(90, 166, (7, 7)), np.ones((4, 4)))
        for number in range(each):
            pixels = np.clip(pattern + random.normal(0, 25, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{label}-{number}.png")
            lines.append(f"{label}-{number}.png,c{label:02},f{label // 3}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def base_tree(images: Path) -> Tree:
    """A train spec of conv4 on such images."""
    return {
        "data": {
            "train": {"format": "csv", "path": str(images)},
            "image_size": 28,
            "color": "gray",
            "crop": 1.0,
            "augment": {"kind": "none"},
            "workers": 0,
            "cache": "memory",
        },
        "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 8, "pooling": {"kind": "flat"}},
        "schedule": {"kind": "cosine", "warmup_steps": 2},
        "optimizer": {"kind": "adamw", "lr": 0.003},
        "batch": {"size": 16},
        "device": "cpu",
    }


def small(images: Path, output: Path, **changes: Any) -> Tree:
    """A comparison of two candidates, two folds, one seed, six steps."""
    tree: Tree = {
        "output": str(output),
        "base": base_tree(images),
        "candidates": {
            "cosface": {"loss": {"kind": "cosface", "scale": 16.0, "margin": 0.1}},
            "triplet": {"loss": {"kind": "triplet"}, "sampler": {"kind": "per-class", "samples_per_class": 4}},
        },
        "folds": 2,
        "seeds": 1,
        "budget": {"steps": 6},
        "curve": 2,
    }
    return tree | changes
