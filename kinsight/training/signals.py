"""Requests to stop: Ctrl-C and termination become a flag the loop looks at between steps."""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import FrameType

from kinsight.parallel.groups import is_main, under_launcher
from kinsight.parallel.launch import STOPPING, launch_folder, stop_asked
from kinsight.progress import say


class StopRequest:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self._signalled = False

    @property
    def wanted(self) -> bool:
        """True once asked, by a signal to this process or through the launching one."""
        return self._signalled or stop_asked()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: the first request is noted; a second Ctrl-C stops at once.

        Under a launcher a terminal's Ctrl-C can arrive twice, from the terminal and from the launcher.
        """
        if self._signalled and number == signal.SIGINT and not under_launcher():
            raise KeyboardInterrupt
        if not self._signalled and is_main() and launch_folder() is None:
            # In a thread, since what the signal interrupted may be writing to the same stream.
            threading.Thread(target=say, args=(STOPPING,), kwargs={"urgent": True}).start()
        self._signalled = True


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block SIGINT and SIGTERM are requests; outside the main thread nobody can ask by a signal."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
            # A request that comes too late to stop this work is meant for what it is a part of.
            if request._signalled and isinstance(whole := getattr(handler, "__self__", None), StopRequest):
                whole._signalled = True


class Children:
    """The processes that read images for this one."""

    def __init__(self) -> None:
        self._started: list[BaseProcess] = []

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Processes started within the block do not take SIGTERM.

        Schedulers send it to every process of a job: without its readers a training could not end its step and save.
        """
        before = set(multiprocessing.active_children())
        masked = hasattr(signal, "pthread_sigmask")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if masked else None
        try:
            yield
        finally:
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._started += set(multiprocessing.active_children()) - before

    def end(self) -> None:
        """End those that did not end when they were asked to; Python would wait for them for ever at its own end."""
        for process in self._started:
            if process.is_alive():
                process.kill()
        self._started.clear()
