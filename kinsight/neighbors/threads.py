"""Whole tiles on each core: dozens of small operations per tile gain little from threads within each of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from threading import Barrier
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


def in_parts(work: Callable[[slice], None], rows: int, least: int) -> None:
    """`work` of all rows: of one part after the other a core, where each has `least` rows, else of all at once.

    Threads stay for the next call: what takes a few milliseconds has no time to start some.
    """
    threads = torch.get_num_threads()
    workers = min(threads, _MOST)
    if workers == 1 or rows < workers * least:
        work(slice(0, rows))
        return
    bounds = [rows * part // workers for part in range(workers + 1)]
    waiting = [_pool(workers, threads).submit(work, slice(*each)) for each in pairwise(bounds)]
    for each in waiting:
        each.result()


@cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Threads that have all begun, before torch's number of threads is what it was."""
    pool = ThreadPoolExecutor(workers, "parts", initializer=_begin, initargs=(threads // workers,))
    ready = Barrier(workers + 1)
    for _ in range(workers):
        pool.submit(ready.wait)
    ready.wait()
    torch.set_num_threads(threads)
    return pool


def _begin(threads: int) -> None:
    torch.get_num_threads()  # a thread takes over the process's setting at its first call, not later
    torch.set_num_threads(threads)


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
