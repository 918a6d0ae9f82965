import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from classifier_bundles import make_classifier
from small_set import NAMES, PER_CLASS, make_bundle, write_list, write_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders `<label>/<number>.png`, and `list.txt` beside them. Tests only read it."""
    folder = tmp_path_factory.mktemp("predicted")
    lines = write_pictures(folder / "images", range(len(NAMES)), range(PER_CLASS))
    write_list(folder / "list.txt", [(f"images/{path}", label) for path, label in lines])
    return folder


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By task. Tests only read them."""
    folder = tmp_path_factory.mktemp("bundles")
    found = {task: make_classifier(folder / task, task=task) for task in ("classification", "multilabel")}
    return found | {"metric": make_bundle(folder / "metric", seed=0)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
