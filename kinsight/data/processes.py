"""Blocks of records read by several processes, answered in order, with a bounded number on their way."""

import signal
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from kinsight.data.reading import any_remote
from kinsight.data.records import Records
from kinsight.errors import RunError

Block = TypeVar("Block")
Result = TypeVar("Result")
_AHEAD = 3  # blocks on their way per process
_state: list[Any] = []  # what a process reads from


def over_records(
    work: Callable[[Records, Block], Result],
    records: Records,
    blocks: Iterable[Block],
    workers: int,
    *,
    fork: bool = True,
) -> Iterator[Result]:
    """`work(records, block)` of every block in order. workers: processes; 0: this one. fork: whether processes may be
    forked where all images are local: not if `work` goes over a network.

    Leaving early, by an error or Ctrl-C too, ends the processes. Raises RunError when one dies.
    """
    if workers == 0:
        for block in blocks:
            yield work(records, block)
        return
    with ExitStack() as stack:
        fork = fork and sys.platform == "linux" and not any_remote(records)
        if not fork:  # remote clients do not survive a fork; a process started afresh maps the records
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kinsight-records-"))
            records = records.mapped(Path(folder, "records.arrow"))
        context = get_context("fork" if fork else "spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(records,))
        try:
            yield from _windowed(pool, work, blocks, workers * _AHEAD)
        except BrokenProcessPool:
            raise RunError(
                "run.worker",
                "a process that reads images died",
                field="workers",
                remedy="memory ran out, most likely: lower workers",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _windowed(
    pool: ProcessPoolExecutor, work: Callable[..., Result], blocks: Iterable[Block], ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    with warnings.catch_warnings():  # the children touch nothing that the parent's threads hold
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        for block in blocks:
            with without_main():
                waiting.append(pool.submit(_answer, work, block))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def without_main() -> Iterator[None]:
    """Processes started within do not import the user's script again: readers need nothing of it, and a script without
    `if __name__ == "__main__"` would start its work in each of them.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main)[name] for name in ("__file__", "__spec__") if vars(main).get(name) is not None}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        vars(main).update(hidden)


def _begin(records: Records) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process answers, and ends this one
    _state[:] = [records]


def _answer(work: Callable[[Records, Any], Result], block: Any) -> Result:
    return work(_state[0], block)
