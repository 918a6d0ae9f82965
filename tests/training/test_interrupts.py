"""Ctrl-C and SIGTERM: the state is saved, and the run goes on to the same bits."""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from paced import rest_at_each_step
from train_runs import Run, Settings, checkpoints, finish, flags, outcome, rows, start


def _trained(output: Path) -> Callable[[], bool]:
    """Whether the first steps are done."""
    return lambda: (output / "metrics.jsonl").exists() and len(rows(output)) > 0


def _to_the_group(run: Run, number: signal.Signals, moment: Callable[[], bool]) -> int:
    while not moment():
        assert run.process.is_alive(), run.text
        time.sleep(0.001)
    os.killpg(run.pid, number)
    return run.wait()


def test_stopped_and_resumed(settings: Settings, image_folder: Path, tmp_path: Path) -> None:
    base = settings | {
        "data.validation.path": str(image_folder / "validation/list.txt"),
        "data.augment.kind": "light",
        "data.workers": 2,
        "model.neck.kind": "bnneck",
        "steps": 30,
    }
    output = tmp_path / "stopped"
    words = ["train", *flags(base | {"output": str(output)})]
    finish(["train", *flags(base | {"output": str(tmp_path / "whole")})], tmp_path / "whole.log")

    # from a terminal: every process gets it; from a scheduler: likewise; from a supervisor: the main process alone
    run = start(words, tmp_path / "log1", before=rest_at_each_step)
    assert _to_the_group(run, signal.SIGINT, _trained(output)) == 130
    step = int(checkpoints(output)[-1].removeprefix("step-"))
    assert f"interrupted: stopped at step {step} of 30; the state is saved in {output}" in run.text
    assert run.text.count("stopping after this step and saving") == 1
    assert "give the same command again" in run.text and "Traceback" not in run.text

    run = start(words, tmp_path / "log2", before=rest_at_each_step)
    assert _to_the_group(run, signal.SIGTERM, lambda: len(rows(output)) > 2 and rows(output)[-1]["step"] > step) == 130
    assert f"going on    from step {step} of 30" in run.text
    assert "error" not in run.text and "Traceback" not in run.text
    step = int(checkpoints(output)[-1].removeprefix("step-"))

    run = start(words, tmp_path / "log3", before=rest_at_each_step)
    assert run.signal_when(lambda: rows(output)[-1]["step"] > step, signal.SIGTERM) == 130

    finish(words, tmp_path / "log4")
    assert outcome(output) == outcome(tmp_path / "whole")


def test_a_second_ctrl_c_stops_at_once(settings: Settings, tmp_path: Path) -> None:
    """Even where a step takes long: here the first batch, since one of its images never comes."""
    listed = Path(settings["data.train.path"])
    os.mkfifo(tmp_path / "endless.png")
    (tmp_path / "list.txt").write_text(
        "".join(f"{listed.parent}/{line}\n" for line in listed.read_text().splitlines()) + f"{tmp_path}/endless.png 0\n"
    )
    base = settings | {"data.train.path": str(tmp_path / "list.txt"), "batch.size": 63, "data.workers": 1}
    run = start(["train", *flags(base)], tmp_path / "log")
    with _opened_for_writing(tmp_path / "endless.png", run):  # its reader waits in the middle of the first batch
        os.kill(run.pid, signal.SIGINT)
        deadline = time.monotonic() + 30
        while "Ctrl-C again stops at once" not in run.text:
            assert run.process.is_alive() and time.monotonic() < deadline, run.text
            time.sleep(0.01)
        time.sleep(0.5)
        assert run.process.is_alive(), run.text
        os.kill(run.pid, signal.SIGINT)
        started = time.monotonic()
        assert run.wait(30) == 130
        assert time.monotonic() - started < 15
        assert run.text.endswith("interrupted\n")


@contextlib.contextmanager
def _opened_for_writing(pipe: Path, run: Run) -> Iterator[None]:
    """From the moment that somebody reads the pipe; nothing is written, and it does not end."""
    while True:
        try:
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            assert run.process.is_alive(), run.text
            time.sleep(0.01)
    try:
        yield
    finally:
        os.close(end)


def test_a_stop_in_the_last_step_is_a_finish(settings: Settings, tmp_path: Path) -> None:
    words = ["train", *flags(settings | {"steps": 1})]
    run = start(words, tmp_path / "log")
    run.signal_when(lambda: "step of 16 images" in run.text, signal.SIGTERM)
    assert run.process.exitcode in (0, 130, -signal.SIGTERM)
    if run.process.exitcode != 0:
        finish(words, tmp_path / "log")
    assert (Path(settings["output"]) / "run.json").exists()
