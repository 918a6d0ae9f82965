"""The miniature data set, and scripts run in this process as `kinsight compat` runs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from compat_cases import Compat, Outcome
from sop_miniature import write_miniature

from kinsight.cli import main


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """258 training images of 86 classes, so that the documented batches of 256 and 160 are full; 24 of 6 to test."""
    folder = tmp_path_factory.mktemp("sop") / "data/Stanford_Online_Products"
    return write_miniature(folder, train_classes=86, test_classes=6, each=3)


@pytest.fixture
def here(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the data set where the scripts look for it."""
    (tmp_path / "data").symlink_to(miniature.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compat(here: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Compat]:
    """Run `kinsight compat WORDS`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(["compat", *words])
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    yield run
    torch.set_num_threads(threads)
