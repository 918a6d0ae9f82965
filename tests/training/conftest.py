"""Small image sets, and settings that train on them within a second."""

from pathlib import Path

import pytest
from train_runs import Settings, draw_images


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/list.txt: 62 images of 8 classes; validation/list.txt: 24 of 6 others."""
    folder = tmp_path_factory.mktemp("images")
    listed = draw_images(folder / "train", classes=8, each=8, seed=0)
    listed.write_text("\n".join(listed.read_text().splitlines()[:-2]) + "\n")
    draw_images(folder / "validation", classes=6, each=4, seed=1)
    return folder


@pytest.fixture
def settings(image_folder: Path, tmp_path: Path) -> Settings:
    """62 images in batches of 16: four steps an epoch, the last with 14 images."""
    return {
        "output": str(tmp_path / "run"),
        "data.train.path": str(image_folder / "train/list.txt"),
        "data.image-size": 28,
        "data.color": "gray",
        "data.crop": 1,
        "data.augment.kind": "none",
        "data.workers": 0,
        "model.backbone": "conv4",
        "model.pretrained": None,
        "model.embedding-dim": 8,
        "schedule.warmup-steps": 2,
        "batch.size": 16,
        "steps": 12,
        "device": "cpu",
    }
