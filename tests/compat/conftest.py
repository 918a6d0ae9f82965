"""The miniature data set, a bucket, and command lines run in this process as `kinsight compat` and `pai` run them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
import torch
from compat_cases import Compat, Outcome, Pai
from pai_data import BUCKET
from sop_miniature import write_miniature

from kinsight import storage
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


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The bucket's folder on a server that oss:// reaches; all else of the environment is empty."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "OSS_", "KINSIGHT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "server"
    (folder / BUCKET).mkdir(parents=True)
    with servers.rclone_server(folder) as server:
        for name, value in server.environment("oss").items():
            monkeypatch.setenv(name, value)
        yield folder / BUCKET
    storage.close_clients()


@pytest.fixture
def pai(capsys: pytest.CaptureFixture[str]) -> Iterator[Pai]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(["pai", *words])
        out, err = capsys.readouterr()
        return Outcome(code, out, " ".join(err.split()))

    yield run
    torch.set_num_threads(threads)
