"""Killed and interrupted, then given again: the numbers are those of a comparison that was not stopped."""

import glob
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from compared import small

from kinsight.comparing import compare


def _start(spec: Path, log: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with log.open("wb") as stream:
        words = [sys.executable, "-m", "kinsight", "compare", "--spec", str(spec)]
        return subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True)


def _signal_when(process: "subprocess.Popen[bytes]", condition: Callable[[], bool], number: signal.Signals) -> int:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert process.poll() is None, "ended before it could be stopped"
    process.send_signal(number)
    return process.wait(60)


def _numbers(output: Path) -> dict[str, Any]:
    """compare.json without what depends on the clock and on where it stands."""
    found = json.loads((output / "compare.json").read_text())
    del found["spec"]
    for candidate in found["candidates"].values():
        for run in candidate["runs"]:
            del run["seconds"], run["output"]
            assert [steps for steps, _ in run["curve"]] == [5]
    return found


def _count(output: Path, name: str) -> int:
    """Files of a name in the runs' folders; folders may vanish while they are looked through."""
    return len(glob.glob(f"{output}/runs/**/{name}", recursive=True))  # noqa: PTH207


def _finished(output: Path) -> int:
    return _count(output, "run.json")


@pytest.mark.timeout(240)
def test_stopped_and_given_again(images: Path, tmp_path: Path) -> None:
    tree = small(images, tmp_path / "whole", trials=2, budget={"steps": 5}, curve=1)
    tree["tune"] = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    compare(tree)
    output, spec = tmp_path / "stopped", tmp_path / "stopped.yaml"
    tree["output"] = str(output)
    spec.write_text(yaml.safe_dump(tree))

    killed = _start(spec, tmp_path / "log1")
    in_a_run = lambda: _count(output, "spec.yaml") > _finished(output) >= 2  # noqa: E731
    assert _signal_when(killed, in_a_run, signal.SIGKILL) == -signal.SIGKILL
    interrupted = _start(spec, tmp_path / "log2")
    assert _signal_when(interrupted, lambda: _finished(output) >= 6, signal.SIGINT) == 130
    text = (tmp_path / "log2").read_text()
    assert "Traceback" not in text and "give the same command again" in text and "runs are done and kept" in text, text
    kept = {path: path.stat().st_mtime_ns for path in output.rglob("run.json")}
    compare(tree)
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items()) and len(kept) in (6, 7)
    assert _numbers(output) == _numbers(tmp_path / "whole")
    events = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]
    runs = [(one["candidate"], one["trial"], one["fold"], one["seed"]) for one in events if one["event"] == "run"]
    assert len(set(runs)) == len(runs) >= 11  # each told once; one that was killed at its very end is not told
