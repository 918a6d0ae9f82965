"""Runs jobs in children that are killed, or that run out of room, and says what a reader then finds.

python killing.py START WORK: START is copied to WORK before each child. One process imports everything and forks.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from index_cases import queries

import kinsight.indexing as indexing
from kinsight.errors import KinsightError

START, WORK = Path(sys.argv[1]), Path(sys.argv[2])
RANDOM_KILLS = 4
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "build": ("new", {"embeddings": str(WORK / "more"), "output": str(WORK / "new"), "id_column": "uri"}),
    "add": ("a", {"index": str(WORK / "a"), "embeddings": str(WORK / "more")}),
    "delete": ("a", {"index": str(WORK / "a"), "ids": ["images/200.png", "images/201.png"]}),
    "compact": ("a", {"index": str(WORK / "a")}),
    "merge": ("new", {"indexes": [str(WORK / "a"), str(WORK / "b")], "output": str(WORK / "new")}),
}
WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate")


def state(place: Path) -> list[Any]:
    """What a reader sees: the generation, and the ids and similarities that a search finds; [0] where no index is."""
    try:
        index = indexing.Index.open(place)
    except KinsightError as error:
        assert error.code in ("storage.not-found", "index.absent", "index.incomplete"), error
        return [0]
    hits = index.search(queries(), 5)
    return [index.version, index.items(hits.row_QK.flatten())["id"].to_pylist(), hits.similarity_QK.tolist()]


def child(job: str, *, moment: int = 0, room: int = 0) -> int:
    """The process id of a child that does the job. moment: of its doings with files, the one it kills itself at.
    room: bytes that a file may have; it ends with 75 where that was said to be the fault.
    """
    name, spec = JOBS[job]
    if pid := os.fork():
        return pid
    code = 1
    try:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        if moment:
            sys.addaudithook(Killer(str(WORK / name), moment))
        if room:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        getattr(indexing, job)(spec)
        code = 0
    except KinsightError as error:
        code = 75 if error.code in ("storage.full", "index.not-written") else 1
    finally:
        os._exit(code)


class Killer:
    """Ends its process before the n-th thing it does in a folder."""

    def __init__(self, folder: str, moment: int) -> None:
        self.folder, self.left = folder, moment

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and arguments and str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fresh() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(START, WORK)


def leftovers(place: Path) -> set[str]:
    """Files that nothing names."""
    header = indexing.Index.open(place).header
    return {path.name for path in place.iterdir()} - {".writer.lock", "index.json", *header.files, *header.previous}


def tried(job: str) -> dict[str, int]:
    """How often a reader found the old state and the new one, over all moments and all sorts of room."""
    place = WORK / JOBS[job][0]
    fresh()
    old, began = state(place), time.monotonic()
    assert ended(child(job)) == 0
    took, new = time.monotonic() - began, state(place)
    assert new != old
    seen = {"moments": 0, "old": 0, "new": 0, "full": 0}

    def look() -> None:
        found = state(place)
        assert found in (old, new), (job, seen, found[0], old[0], new[0])
        seen["old" if found == old else "new"] += 1
        if found == old and seen["old"] % 4 == 0:  # what is left behind is in nobody's way
            assert ended(child(job)) == 0, (job, seen)
            assert state(place)[1:] == new[1:], (job, seen)
            assert not leftovers(place), leftovers(place)

    for moment in range(1, 1000):
        fresh()
        if ended(child(job, moment=moment)) == 0:
            break
        seen["moments"] += 1
        look()
    for _ in range(RANDOM_KILLS):
        fresh()
        pid = child(job)
        time.sleep(random.uniform(0, took))
        os.kill(pid, signal.SIGKILL)
        ended(pid)
        look()
    for room in (300, 3000, 12_000, 36_000, 10**9):
        fresh()
        code = ended(child(job, room=room))
        assert code in (0, 75), (job, room, code)
        if code == 75:
            seen["full"] += 1
            assert state(place) == old, (job, room)
            assert not old[0] or not leftovers(place), leftovers(place)
    return seen


if __name__ == "__main__":
    torch.set_num_threads(1)
    random.seed(0)
    sys.stdout.write(json.dumps(tried(sys.argv[3])))
