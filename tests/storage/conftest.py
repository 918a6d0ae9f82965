"""Both object servers, once per session, under both schemes; and an environment that knows nothing else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers

from kinsight import storage


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "OSS_", "KINSIGHT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "20")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server
    storage.close_clients()


@pytest.fixture(scope="session")
def moto() -> Iterator[servers.Server]:
    with servers.moto_server() as server:
        yield server
    storage.close_clients()


@pytest.fixture(params=["rclone-s3", "rclone-oss", "moto-s3", "moto-oss"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> servers.Place:
    name, _, scheme = request.param.partition("-")
    return servers.use(request.getfixturevalue(name), scheme, monkeypatch, request)


@pytest.fixture
def rclone_place(
    rclone: servers.Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> servers.Place:
    return servers.use(rclone, "s3", monkeypatch, request)
