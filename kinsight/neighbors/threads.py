"""Whole tiles on each core: dozens of small operations per tile gain little from threads within each of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock, Thread
from typing import TypeVar

import torch

_MOST = 8  # workers, each with its own tile in memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def over_cores(work: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> Iterator[Result]:
    """Results of `work` in the order of the items, computed side by side within torch's number of threads.

    On other devices than the CPU one after the other.
    """
    threads = torch.get_num_threads()
    workers = min(threads, _MOST) if device.type == "cpu" else 1
    if workers == 1:
        yield from map(work, items)
        return

    waiting: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(
            workers, thread_name_prefix="tiles", initializer=_begin, initargs=(threads // workers,)
        ) as pool:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)  # set_num_threads also sets what threads to come will take over


def in_parts(work: Callable[[slice], Result], rows: int, least: int, most: int) -> list[Result]:
    """`work` of all rows in pieces of `most` rows at most, in their order; where each core gets `least` rows, several
    cores work side by side, each on pieces of its own within its share of torch's threads.

    What is interrupted, or fails, ends with the pieces begun. Threads stay for the next call: what takes a few
    milliseconds has no time to start some.
    """
    threads = torch.get_num_threads()
    inner = -(-threads // _MOST)
    workers = threads // inner
    if rows < workers * least:
        workers = 1
    pieces = workers * max(1, -(-rows // (workers * most)))
    bounds = [slice(rows * number // pieces, rows * (number + 1) // pieces) for number in range(pieces)]
    if workers == 1:
        return [work(here) for here in bounds]
    pool = _pool(workers, inner)
    waiting = [pool.submit(work, here) for here in bounds]
    try:
        return [each.result() for each in waiting]
    finally:
        for each in waiting:
            each.cancel()


_starting = Lock()


def _pool(workers: int, inner: int) -> ThreadPoolExecutor:
    with _starting:
        return _started(workers, inner)


@cache
def _started(workers: int, inner: int) -> ThreadPoolExecutor:
    """Threads that have all begun, before the number that torch's threads to come take over is what it was."""
    usual: list[int] = []
    pool = ThreadPoolExecutor(workers, "parts", initializer=lambda: usual.append(_begin(inner)))
    ready = Barrier(workers + 1)
    try:
        for _ in range(workers):
            pool.submit(ready.wait)
        ready.wait()
    except BaseException:
        ready.abort()  # else those that have begun wait for ever
        pool.shutdown(wait=False)
        raise
    again = Thread(target=torch.set_num_threads, args=(usual[0],))  # not this one: it may have a number of its own
    again.start()
    again.join()
    return pool


def _begin(threads: int) -> int:
    """Gives how many a thread would have had: it takes over the process's setting at its first call, not later."""
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    return usual


def _forget() -> None:
    """A child process has none of its parent's threads."""
    global _starting
    _starting = Lock()
    _started.cache_clear()


os.register_at_fork(after_in_child=_forget)
