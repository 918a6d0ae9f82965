"""Writers killed at every moment, and without room: the index that was there opens, and finds what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_cases import built, grouped, store

from kinsight.indexing import Index, build, delete
from kinsight.partition import learn

JOBS = [
    pytest.param(kind, job, marks=() if (kind, job) == ("ivf", "add") else pytest.mark.slow)
    for kind in ("ivf", "learned")
    for job in ("add", "build", "delete", "compact", "merge")
]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Two indexes of a kind with deleted items, and embeddings to be added."""
    start = tmp_path_factory.mktemp("interrupted") / "start"
    settings: dict[str, Any] = {"index": {"kind": "ivf", "lists": 4}}
    if request.param == "learned":
        np.save(start.parent / "learn.npy", grouped(1000, seed=2))
        partition = {"vectors": str(start.parent / "learn.npy"), "output": str(start.parent / "part"), "lists": 8}
        learn(partition | {"fit": {"epochs": 2}, "held_out": 100, "device": "cpu"})
        copies = {"budget": 0.5, "rule": "probability"}
        index = {"payload": "sq8", "nprobe": 4, "refine": 4, "copies": copies}
        settings = {"partition": str(start.parent / "part"), "index": index}
    for number, name in enumerate("ab"):
        emb = store(start / f"emb-{name}", grouped(400, seed=number), first=400 * number)
        spec = {"embeddings": str(emb), "output": str(start / name), "id_column": "uri"}
        build(spec | settings)
        uris = [f"images/{row}.png" for row in range(400 * number, 400 * number + 100)]
        delete({"index": str(start / name), "ids": uris})
    store(start / "more", grouped(100, seed=7), first=5000)
    return start


def outcome(start: Path, job: str) -> dict[str, Any]:
    """What readers found over all moments, and over all sorts of room."""
    script, work = Path(__file__).with_name("killing.py"), start.parent / "work"
    # one thread: a forked process has none of the others
    run = subprocess.run(
        [sys.executable, str(script), str(start), str(work), job],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        timeout=280,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize(("start", "job"), JOBS, indirect=["start"])
def test_a_writer_killed_at_any_moment_and_without_room(job: str, start: Path) -> None:
    found = outcome(start, job)
    assert found["moments"] >= 8
    assert found["old"] >= 6
    assert found["new"] >= 1
    assert found["full"] >= 1


@pytest.mark.parametrize("job", ["add", "compact"])
def test_a_full_disk(job: str, tmp_path: Path) -> None:
    """A file system of its own that has no room for another generation."""
    index = built(tmp_path, grouped(8000), index={"kind": "hnsw", "m": 4, "ef_construction": 8})
    delete({"index": str(index.address), "ids": ["3"]})
    size = sum(path.stat().st_size for path in (tmp_path / "index").iterdir())
    np.save(tmp_path / "more.npy", grouped(9000, seed=3))
    words = [str(tmp_path / "index"), *([str(tmp_path / "more.npy")] if job == "add" else [])]
    inside = tmp_path / "small"
    inside.mkdir()
    script = (
        f"mount -t tmpfs -o size={size + 400_000} none {inside} || exit 99; cp -r {tmp_path}/index {inside}/index; "
        f"{sys.executable} -m kinsight index {job} {' '.join([str(inside / 'index'), *words[1:]])}; code=$?; "
        f"rm -rf {tmp_path}/after; cp -r {inside}/index {tmp_path}/after; exit $code"
    )
    run = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    if run.returncode == 99 or "unshare" in run.stderr:
        pytest.skip("no file system can be mounted here")
    assert run.returncode == 1, run.stderr
    assert "free some space" in run.stderr
    after = Index.open(tmp_path / "after")
    assert (len(after), after.version) == (7999, 2)
    assert {path.name for path in (tmp_path / "after").iterdir()} == {
        path.name for path in (tmp_path / "index").iterdir()
    }
