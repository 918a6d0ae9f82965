"""Whole tiles on each core: dozens of small operations per tile gain little from threads within each of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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

    def begin() -> None:
        torch.get_num_threads()  # a thread takes over the process's setting at its first call, not later
        torch.set_num_threads(max(1, threads // workers))

    waiting: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="tiles", initializer=begin) as pool:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)  # set_num_threads also sets what threads to come will take over
