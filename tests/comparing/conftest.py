"""Image sets drawn once."""

from pathlib import Path

import pytest
from compared import draw_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 images of 12 classes in 4 families; the CSV file."""
    return draw_images(tmp_path_factory.mktemp("images") / "train", classes=12, each=8, seed=0)


@pytest.fixture(scope="session")
def test_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images of 6 other classes; the CSV file."""
    return draw_images(tmp_path_factory.mktemp("images") / "test", classes=6, each=4, seed=1)
