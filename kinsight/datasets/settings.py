"""The train.yaml that fits a set: small drawings from scratch, photographs on published weights."""

from pathlib import Path
from typing import Any

import yaml

_DRAWINGS: dict[str, Any] = {
    "data": {
        "image_size": 32,
        "color": "gray",
        "crop": 1.0,
        "augment": {"kind": "symbol"},
        "cache": "memory",
        "workers": 2,
    },
    "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 128, "pooling": {"kind": "flat"}},
    "loss": {"kind": "cosface", "margin": 0.15, "scale": 16.0},
    "optimizer": {"kind": "adamw", "lr": 0.003},
    "schedule": {"kind": "cosine", "warmup_steps": 50},
    "batch": {"size": 128},
    "epochs": 14,
}  # fmt: skip
_PHOTOS: dict[str, Any] = {
    "data": {"image_size": 224, "augment": {"kind": "photo", "min_area": 0.2}, "workers": 4},
    "model": {"backbone": "resnet50", "embedding_dim": 512, "pooling": {"kind": "gem"}, "neck": {"kind": "bnneck"}},
    "loss": {"kind": "arcface", "margin_deg": 17, "scale": 30},
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "schedule": {"kind": "cosine", "warmup_steps": 200},
    "batch": {"size": 64},
    "epochs": 30,
}  # fmt: skip
_KINDS = {"symbols": _DRAWINGS, "omniglot": _DRAWINGS, "fashion-mnist": {**_DRAWINGS, "epochs": 8}}


def train_yaml(name: str, folder: Path) -> str:
    """Settings to start from. Addresses are absolute, so that it works from anywhere."""
    base = _KINDS.get(name, _PHOTOS)
    data = {"train": {"path": str(folder / "train.txt")}}
    if (folder / "validation.txt").exists():
        data["validation"] = {"path": str(folder / "validation.txt")}
    tree = {"job": "train", "output": str(folder / "run"), **base, "data": {**data, **base["data"]}}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
