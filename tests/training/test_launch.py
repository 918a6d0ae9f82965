"""`--nproc` and torchrun with real launchers: lost processes, stops, errors told once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from paced import rest_in_launched
from train_runs import Run, Settings, checkpoints, finish, finish_group, flags, outcome, rows, start

from kinsight.parallel.launch import end_with_launcher


def _workers(run: Run) -> dict[int, int]:
    """Process numbers of a launcher's workers by rank."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    found = {}
    for pid in map(int, children):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        rank = [value.removeprefix(b"RANK=") for value in variables if value.startswith(b"RANK=")]
        if rank:
            found[int(rank[0])] = pid
    return found


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _wait(condition: Callable[[], bool], run: Run, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, run.text
        time.sleep(0.005)


def test_lost_processes_and_stops(settings: Settings, image_folder: Path, tmp_path: Path) -> None:
    """One run: a process of it is killed, it is stopped, and then another launcher takes it to its end."""
    output = tmp_path / "run"
    base = settings | {
        "data.validation.path": str(image_folder / "validation/list.txt"),
        "model.neck.kind": "bnneck",
        "precision": "fp32",
        "steps": 40,
        "checkpoint.every-epochs": 1,
    }
    words = ["train", *flags(base | {"output": str(output), "nproc": 2, "data.workers": 2})]

    slowly = partial(rest_in_launched, tmp_path)

    run = start(words, tmp_path / "log1", before=slowly)
    _wait(lambda: len(checkpoints(output)) > 1, run)
    workers = _workers(run)
    assert set(workers) == {0, 1}
    os.kill(workers[1], signal.SIGKILL)
    started = time.monotonic()
    assert run.wait() == 1
    assert time.monotonic() - started < 20
    assert "the process of rank 1 was ended by SIGKILL; the run stopped" in run.text
    assert "give the same command again" in run.text and "Traceback" not in run.text
    assert _gone(workers[0])

    # Ctrl-C in a terminal: the launcher's process group
    step = rows(output)[-1]["step"]
    run = start(words, tmp_path / "log2", before=slowly)
    _wait(lambda: rows(output)[-1]["step"] > step, run)
    workers = _workers(run)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait() == 130
    assert f"the state is saved in {output}" in run.text and "from step" in run.text
    assert run.text.count("stopping after this step and saving") == 1
    assert "Warning" not in run.text and "Traceback" not in run.text
    assert all(map(_gone, workers.values()))

    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", "-m", "kinsight"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    without = ["train", *flags(base | {"output": str(output)})]
    done = subprocess.run([*command, *without], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "from step" in done.stderr and "2 process(es)" in done.stderr
    assert done.stderr.count("network     conv4") == 1, "only the main process talks"

    finish_group(["train", *flags(base | {"output": str(tmp_path / "whole")})], 2, tmp_path / "whole.log")
    assert outcome(output) == outcome(tmp_path / "whole")


def _lost_launcher(pipe: int, folder: str) -> None:
    """A launching process with one worker that would never end."""
    os.environ["KINSIGHT_LAUNCH_FOLDER"] = folder
    pid = os.fork()
    if pid == 0:
        end_with_launcher()
        while True:
            time.sleep(60)
    os.write(pipe, f"{pid}\n".encode())
    time.sleep(600)


@pytest.mark.parametrize("way", ["killed", "abort"])
def test_workers_end_with_their_launcher(way: str, tmp_path: Path) -> None:
    """A second training must not begin beside workers of a launcher that was killed."""
    run = start([], tmp_path / "log", before=partial(_lost_launcher, 1, str(tmp_path)))
    _wait(lambda: run.text.endswith("\n"), run)
    worker = int(run.text)
    assert not _gone(worker)
    if way == "killed":
        run.process.kill()
    else:
        (tmp_path / "abort").touch()
    _wait(lambda: _gone(worker), run, 10)
    run.process.kill()
    run.wait()


def test_an_error_is_told_once(settings: Settings, tmp_path: Path) -> None:
    """Broken images are found by the workers, after the start."""
    listed = Path(settings["data.train.path"])
    lines = [f"{listed.parent}/{line}" for line in listed.read_text().splitlines()]
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
        lines.append(f"{tmp_path}/{number}.png 0")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    base = settings | {"data.train.path": str(tmp_path / "list.txt"), "nproc": 2, "data.cache": "memory"}
    text = finish(["train", *flags(base)], tmp_path / "log", code=3)
    assert text.count("error:") == 1 and text.count("images cannot be used") == 1
    assert "Traceback" not in text and "max_broken" in text
