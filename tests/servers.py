"""Real servers on loopback for tests: `rclone serve s3` (checks signatures), `moto_server`, and a plain web server.

with rclone_server(folder) as server:          # starts in well under a second
    environment = server.environment("s3")     # variables for s3://, or "oss" for oss://
    server.stop(); server.start()              # an outage; what is stored stays (rclone) or is lost (moto)
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kinsight.storage import Address

KEY, SECRET = "testkey", "testsecret"
_BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A server process on 127.0.0.1:port. buckets: folders made by rclone, else made over its protocol."""

    kind: str
    command: list[str]
    port: int
    bucket: str = "kinsight-test"
    folder: Path | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, scheme: str) -> dict[str, str]:
        """The variables that make `scheme`:// reach this server."""
        if scheme == "s3":
            return {
                "AWS_ENDPOINT_URL_S3": self.url,
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_REGION": "us-east-1",
            }
        return {"OSS_ENDPOINT": self.url, "OSS_ACCESS_KEY_ID": KEY, "OSS_ACCESS_KEY_SECRET": SECRET}

    def start(self) -> None:
        assert self.process is None
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _await_answer(self)
        if self.kind == "moto":
            request = urllib.request.Request(f"{self.url}/{self.bucket}", method="PUT")
            urllib.request.urlopen(request, timeout=10).close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _await_answer(server: Server, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        assert server.process is not None
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.kind} ended with code {server.process.returncode}")
        try:
            urllib.request.urlopen(server.url, timeout=2).close()
            return
        except urllib.error.HTTPError as answer:
            answer.close()
            return  # any answer will do
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{server.kind} did not answer within {limit_s} s")


@contextmanager
def rclone_server(folder: Path) -> Iterator[Server]:
    """`rclone serve s3` over `folder`: real signatures, objects survive a restart. One bucket, `server.bucket`."""
    port = free_port()
    binary = shutil.which("rclone", path=str(_BIN)) or "rclone"
    command = [binary, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", str(folder)]
    server = Server("rclone", [*command, "--config", os.devnull], port, folder=folder)
    (folder / server.bucket).mkdir(parents=True, exist_ok=True)
    with _running(server):
        yield server


@contextmanager
def moto_server() -> Iterator[Server]:
    """`moto_server`: any credentials, everything in memory. One bucket, `server.bucket`."""
    port = free_port()
    with _running(Server("moto", [str(_BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], port)) as server:
        yield server


@contextmanager
def web_server(folder: Path) -> Iterator[Server]:
    """Python's own web server over `folder`: GET and HEAD, no ranges."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    with _running(Server("web", command, port, folder=folder)) as server:
        yield server


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@dataclass
class Place:
    """A fresh directory on a running server. root: its address."""

    server: Server
    scheme: str
    root: Address


def use(server: Server, scheme: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Place:
    """A fresh directory on `server`, with the environment set so that `scheme`:// reaches it."""
    for name, value in server.environment(scheme).items():
        monkeypatch.setenv(name, value)
    folder = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return Place(server, scheme, Address.parse(f"{scheme}://{server.bucket}/{folder}"))
