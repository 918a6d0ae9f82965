"""Requests to stop: Ctrl-C and termination become a flag the loop looks at between steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from kinsight.parallel.groups import is_main, under_launcher
from kinsight.progress import say


class StopRequest:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.wanted = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: the first request is noted; a second Ctrl-C stops at once.

        Under a launcher a terminal's Ctrl-C arrives twice, from the terminal and from the launcher.
        """
        if self.wanted and number == signal.SIGINT and not under_launcher():
            raise KeyboardInterrupt
        if not self.wanted and is_main():
            say("stopping after this step and saving; Ctrl-C again stops at once, back to the last checkpoint")
        self.wanted = True


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block SIGINT and SIGTERM are requests; outside the main thread nobody can ask."""
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
