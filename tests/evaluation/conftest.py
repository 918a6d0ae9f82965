from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_set import NAMES, PER_CLASS, make_bundle, write_list, write_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures, `integers.txt` and `names.txt`. Tests only read it."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = write_pictures(folder, range(len(NAMES)), range(PER_CLASS))
    write_list(folder / "integers.txt", lines)
    write_list(
        folder / "names.txt",
        [(path, f'"{NAMES[label]}"' if "," in NAMES[label] else NAMES[label]) for path, label in lines],
    )
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained conv4 of 16 pixels with 12 numbers a vector. Tests only read it."""
    return make_bundle(tmp_path_factory.mktemp("models") / "bundle", seed=0)


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
