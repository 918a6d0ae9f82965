"""Rows in pieces, for which cores work side by side."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread, current_thread, main_thread

import pytest
import torch

from kinsight.neighbors import threads as module
from kinsight.neighbors.threads import in_parts

Done = tuple[slice, int, bool]


def told(here: slice) -> Done:
    time.sleep(0.02)  # so that no thread does all of them
    return here, torch.get_num_threads(), current_thread() is main_thread()


@pytest.fixture(params=[2, 3, 9])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def in_a_new_thread() -> int:
    found: list[int] = []
    thread = Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_each_row_is_in_one_piece_and_threads_share_them(threads: int) -> None:
    module._started.cache_clear()
    done = in_parts(told, 10_001, least=100, most=700)
    assert [row for here, _, _ in done for row in range(here.start, here.stop)] == list(range(10_001))
    assert max(here.stop - here.start for here, _, _ in done) <= 700
    workers, inner = {2: (2, 1), 3: (3, 1), 9: (4, 2)}[threads]
    assert len(done) % workers == 0
    assert {(each, main) for _, each, main in done} == {(inner, False)}
    assert torch.get_num_threads() == in_a_new_thread() == threads


def test_few_rows_are_done_here_with_all_threads(threads: int) -> None:
    done = in_parts(told, 199, least=100, most=120)
    assert done == [(slice(0, 99), threads, True), (slice(99, 199), threads, True)]
    assert in_parts(told, 0, least=100, most=120) == [(slice(0, 0), threads, True)]


def test_a_thread_with_a_number_of_its_own_changes_no_others(threads: int) -> None:
    def own() -> tuple[int, int]:
        torch.get_num_threads()
        torch.set_num_threads(4)
        again = Thread(target=torch.set_num_threads, args=(threads,))  # of threads to come
        again.start()
        again.join()
        module._started.cache_clear()
        in_parts(told, 1000, least=100, most=1000)
        return torch.get_num_threads(), in_a_new_thread()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(own).result() == (4, threads)


def test_what_goes_wrong_in_a_piece_is_raised_and_the_rest_left(threads: int) -> None:
    begun: list[slice] = []

    def work(here: slice) -> None:
        begun.append(here)
        time.sleep(0.02)
        if here.start == 0:
            raise ValueError("the first piece")

    with pytest.raises(ValueError, match="the first piece"):
        in_parts(work, 100_000, least=100, most=100)
    time.sleep(0.1)
    assert len(begun) < 100
    assert in_parts(lambda here: here.stop, 1000, least=100, most=1000)[-1] == 1000  # threads are there for the next


def test_threads_that_cannot_begin_are_an_error_not_a_wait(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(ThreadPoolExecutor):
        left = 1

        def submit(self, *args, **kwargs):  # pyright: ignore
            if Full.left == 0:
                raise RuntimeError("can't start new thread")
            Full.left -= 1
            return super().submit(*args, **kwargs)

    module._started.cache_clear()
    monkeypatch.setattr(module, "ThreadPoolExecutor", Full)
    with pytest.raises(RuntimeError, match="can't start"):
        in_parts(told, 1000, least=100, most=1000)
    monkeypatch.undo()
    assert len(in_parts(told, 1000, least=100, most=1000)) >= 2


def test_a_child_process_has_threads_of_its_own() -> None:
    program = """
import os, signal, torch
from kinsight.neighbors.threads import in_parts
torch.set_num_threads(2)
in_parts(lambda here: here, 1000, 100, 1000)
child = os.fork()
if child == 0:
    signal.alarm(20)
    done = in_parts(lambda here: here.stop, 1000, 100, 1000)
    os._exit(0 if done == [500, 1000] else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=60).returncode == 0


def test_ctrl_c_ends_with_the_pieces_begun() -> None:
    program = """
import _thread, threading, time, torch
from kinsight.neighbors.threads import in_parts
torch.set_num_threads(2)
threading.Timer(0.3, _thread.interrupt_main).start()
try:
    in_parts(lambda here: time.sleep(0.1), 100_000, 10, 100)
except KeyboardInterrupt:
    print("interrupted")
"""
    started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40)
    assert started.stdout == "interrupted\n" and started.returncode == 0, started.stderr
