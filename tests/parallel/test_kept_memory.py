"""Freed memory stays with the process while it is wanted, and goes back afterwards."""

import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from kinsight.parallel.memory import kept_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")


def _faults(rounds: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [torch.zeros(10 * 2**20) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def _rounds() -> tuple[int, int, int]:
    """Faults without keeping memory, within a nested block, and within the outer one after it."""
    without = _faults(4)
    with kept_memory():
        _faults(4)
        with kept_memory():
            inner = _faults(4)
        outer = _faults(4)
    return without, inner, outer


def test_pages_are_asked_for_once():
    # A process of its own: what other tests have left in the heap may stand where a block was.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        without, inner, outer = pool.submit(_rounds).result()
    assert without > 50_000
    assert inner < without / 10
    assert outer < without / 10


def test_everything_is_given_back():
    before = _resident_mb()
    with kept_memory():
        _faults(2)
        kept = _resident_mb()
    assert kept - before > 100
    assert _resident_mb() - before < 30
    assert _faults(4) > 20_000
