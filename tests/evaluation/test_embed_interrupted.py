"""`kinsight embed` as a real process that is killed at the worst moments, and the same command again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from servers import rclone_server, use

import kinsight
from kinsight.data import vectors
from kinsight.evaluation import load_embeddings

# Sends itself a signal before or after the n-th call of a function of `kinsight.data.vectors`.
SCRIPT = """
import os, sys
from kinsight.cli import main
from kinsight.data import vectors
moment, name, count, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
vectors.SHARD_ROWS = 8
inner, calls = getattr(vectors, name), []
def outer(*args):
    calls.append(args)
    if len(calls) == count and moment == "before":
        os.kill(os.getpid(), number)
    inner(*args)
    if len(calls) == count and moment == "after":
        os.kill(os.getpid(), number)
setattr(vectors, name, outer)
sys.exit(main(sys.argv[5:]))
"""


def killed(moment: str, name: str, count: int, number: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, moment, name, str(count), str(int(number)), "embed", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SHARD_ROWS", 8)


@pytest.mark.parametrize(
    ("moment", "name", "count", "format_"),
    [
        ("before", "write_shard", 3, "parquet"),
        ("after", "write_shard", 3, "parquet"),
        ("after", "write_npy", 1, "npy"),
    ],
)
def test_killed_and_gone_on_with(
    moment: str, name: str, count: int, format_: str, pictures: Path, bundle: Path, tmp_path: Path
):
    output, data = str(tmp_path / "out"), str(pictures / "integers.txt")
    words = ["--bundle", str(bundle), "--data.path", data, "--output", output, "--format", format_, "--workers", "0"]
    result = killed(moment, name, count, signal.SIGKILL, *words)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not (tmp_path / "out/embeddings.json").exists()
    with pytest.raises(kinsight.errors.DataError, match="not finished"):
        load_embeddings(output)
    first = (tmp_path / "out/part-00000.parquet").stat().st_mtime_ns
    spec = {"bundle": str(bundle), "data": {"path": data}, "format": format_}
    kinsight.embed({"output": output, "workers": 1, **spec})
    kinsight.embed({"output": str(tmp_path / "whole"), "workers": 0, **spec})
    assert format_ == "npy" or (tmp_path / "out/part-00000.parquet").stat().st_mtime_ns == first, "not done twice"
    found, expected = load_embeddings(output), load_embeddings(tmp_path / "whole")
    assert np.array_equal(found.vector_ND, expected.vector_ND)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}


def test_a_kill_after_the_header_leaves_finished_embeddings(pictures: Path, bundle: Path, tmp_path: Path):
    words = ["--bundle", str(bundle), "--data.path", str(pictures / "integers.txt"), "--output", str(tmp_path / "out")]
    assert killed("after", "write_header", 1, signal.SIGKILL, *words).returncode == -signal.SIGKILL
    assert load_embeddings(tmp_path / "out").header["count"] == 30


def test_ctrl_c_says_how_to_go_on(pictures: Path, bundle: Path, tmp_path: Path):
    words = ["--bundle", str(bundle), "--data.path", str(pictures / "integers.txt"), "--output", str(tmp_path / "out")]
    result = killed("after", "write_shard", 2, signal.SIGINT, *words)
    assert result.returncode == 130 and "Traceback" not in result.stderr, result.stderr
    assert "stopped; 8 vectors are stored" in result.stderr and "same command again" in result.stderr


def test_killed_while_writing_to_object_storage(
    pictures: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    with rclone_server(tmp_path / "server") as server:
        place = use(server, "s3", monkeypatch, request)
        monkeypatch.setenv("KINSIGHT_SCRATCH", str(tmp_path / "scratch"))
        output, data = f"{place.root}/out", str(pictures / "integers.txt")
        words = ["--bundle", str(bundle), "--data.path", data, "--output", output, "--workers", "0"]
        assert killed("before", "write_shard", 3, signal.SIGKILL, *words).returncode == -signal.SIGKILL
        folder = tmp_path / "server" / server.bucket / place.root.path / "out"
        assert (folder / "part-00001.parquet").exists() and not (folder / "embeddings.json").exists()
        first = (folder / "part-00000.parquet").stat().st_mtime_ns
        kinsight.embed({"output": output, "workers": 0, "bundle": str(bundle), "data": {"path": data}})
        assert (folder / "part-00000.parquet").stat().st_mtime_ns == first
        kinsight.embed({"output": str(tmp_path / "a"), "workers": 0, "bundle": str(bundle), "data": {"path": data}})
        assert np.array_equal(load_embeddings(output).vector_ND, load_embeddings(tmp_path / "a").vector_ND)
        assert not any(path.name.startswith(".") for path in folder.iterdir())
