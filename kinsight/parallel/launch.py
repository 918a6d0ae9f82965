"""Several processes on one machine: started through torch's elastic launcher, asked to stop, their failures told.

The launching process and its workers share a folder. In it lie the reports of workers that failed and two requests of
the user: `stop` (save and end) and `abort` (end at once). Files, because a signal to a worker's process group would
also reach the processes that read images for it.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from kinsight import errors
from kinsight.errors import InterruptedRun, KinsightError, RunError
from kinsight.progress import say

_FOLDER = "KINSIGHT_LAUNCH_FOLDER"
_STOP, _ABORT = "stop", "abort"
_WATCH_EVERY_S = 0.2
STOPPING = "stopping after this step and saving; Ctrl-C again stops at once, back to the last checkpoint"
_REMEDY = "the last checkpoint, if there is one, is intact: give the same command again to go on from it"


def launch(module: str, words: Sequence[str], num_processes: int) -> None:
    """Run `python -m module words...` in N processes on this machine and wait for all of them.

    The first Ctrl-C or SIGTERM asks them to save and stop, a second Ctrl-C ends them.
    Raises what the first process to fail reported with `report_failure`; for one that could not report, RunError
    naming it and how it ended. The others are ended too.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.2,
        signals_to_handle="SIGHUP,SIGQUIT",
    )
    with (
        tempfile.TemporaryDirectory(prefix="kinsight-") as name,
        _environment(num_processes, Path(name)),
        _signals_become_requests(Path(name)),
        _quiet_elastic_launcher(),
    ):
        try:
            elastic_launch(config, sys.executable)("-m", module, *words)
        except KeyboardInterrupt:
            raise InterruptedRun("run.interrupted", "stopped at once", remedy=_REMEDY) from None
        except SignalException as error:
            raise InterruptedRun("run.interrupted", f"stopped by {error.sigval.name}", remedy=_REMEDY) from None
        except ChildFailedError as error:
            raise _failure(Path(name), error.failures) from None


def launch_folder() -> Path | None:
    """The folder shared with the launching process; None in a process that `launch` did not start."""
    name = os.environ.get(_FOLDER)
    return Path(name) if name else None


def stop_asked() -> bool:
    """Whether the user has asked the launching process to stop."""
    folder = launch_folder()
    return folder is not None and (folder / _STOP).exists()


def report_failure(error: KinsightError) -> None:
    """Tell the launching process why this one is about to end."""
    fields = {"type": type(error).__name__, "code": error.code, "message": error.message}
    _report({**fields, "field": error.field, "remedy": error.remedy})


def report_crash(error: BaseException) -> None:
    """The same for an exception that nobody foresaw, or that only follows from the loss of another process."""
    _report({"crash": "".join(traceback.format_exception(error)), "message": f"{type(error).__name__}: {error}"})


def end_with_launcher() -> None:
    """From now on this process ends when the launching process is gone or told to abort.

    The main one tells the user that a stop was asked for: it knows what is on the terminal.
    """
    folder, launcher = launch_folder(), os.getppid()
    assert folder is not None, "only processes that `launch` started end with it"

    def watch() -> None:
        silent = os.environ.get("RANK") != "0"
        while os.getppid() == launcher and not (folder / _ABORT).exists():
            if not silent and stop_asked():
                say(STOPPING)
                silent = True
            time.sleep(_WATCH_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="kinsight-launcher-watch", daemon=True).start()


def _report(report: dict[str, Any]) -> None:
    folder = launch_folder()
    assert folder is not None, "only processes that `launch` started report"
    file = folder / f"{os.environ['RANK']}.json"
    file.write_text(json.dumps({**report, "rank": int(os.environ["RANK"]), "time": time.time()}), encoding="utf-8")


def _failure(folder: Path, failures: dict[int, Any]) -> KinsightError:
    """The cause among what the processes reported and how they ended; the rest is its consequence."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    reports.sort(key=lambda report: report["time"])
    for report in reports:
        if "crash" not in report:
            type_ = getattr(errors, report["type"])
            return type_(report["code"], report["message"], field=report["field"], remedy=report["remedy"])
    # A process that lost its peer crashes, and is then ended by the launcher with SIGTERM.
    killed = {rank: -failure.exitcode for rank, failure in failures.items() if failure.exitcode < 0}
    sudden = {rank: number for rank, number in killed.items() if number != signal.SIGTERM}
    if reports and not sudden:
        print(reports[0]["crash"], file=sys.stderr)
        return RunError("run.crashed", f"the process of rank {reports[0]['rank']} failed: {reports[0]['message']}")
    if sudden or killed:
        rank, number = min((sudden or killed).items())
        how = f"was ended by {signal.Signals(number).name}"
    else:
        rank = min(failures)
        how = f"failed with exit code {failures[rank].exitcode}"
        number = 0
    memory = "; memory ran out, most likely, if nobody ended it by hand" if number == signal.SIGKILL else ""
    return RunError("run.process-lost", f"the process of rank {rank} {how}; the run stopped{memory}", remedy=_REMEDY)


@contextlib.contextmanager
def _environment(num_processes: int, folder: Path) -> Iterator[None]:
    """Loopback between processes of one machine, its cores shared among them, no chatter; variables already set win."""
    before = dict(os.environ)
    loopback = "lo" if sys.platform.startswith("linux") else "lo0"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or each worker warns of what does not matter here
    os.environ[_FOLDER] = str(folder)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _signals_become_requests(folder: Path) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM ask the workers to stop; outside the main thread nobody can ask."""

    def ask(number: int, frame: FrameType | None) -> None:
        if (folder / _STOP).exists() and number == signal.SIGINT:
            (folder / _ABORT).touch()
            raise KeyboardInterrupt
        (folder / _STOP).touch()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The elastic launcher replaces two more, and leaves them so.
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in names}
    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_elastic_launcher() -> Iterator[None]:
    """What torch's launcher would log of failures and signals is said in our own words."""
    known = list(logging.Logger.manager.loggerDict)
    names = [name for name in known if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher"))]
    before = [(logger, logger.disabled) for logger in map(logging.getLogger, names)]
    for logger, _ in before:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in before:
            logger.disabled = disabled
