"""Keeping freed memory for the next step, instead of giving it back to the system and asking for it again.

A training step on a CPU allocates and frees the same hundreds of megabytes. glibc returns such blocks to the kernel at
once, which then clears every page anew: a fifth of the processor time of a small network's training.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h's numbers for mallopt
_KEEP = 2**31 - 1  # bytes free at the heap's end before it shrinks
_MAPPED_DEFAULT = 65_536  # blocks that may be mapped from the system one by one
# Setting a threshold ends glibc's own adaptation. These are what it adapts to where blocks are as large as here.
_LARGE, _KEEP_AFTER = 2**25, 2**26
_lock = threading.Lock()
_users = 0


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within the block this process keeps what it frees; afterwards it gives everything back. May be nested.

    Does nothing where the C library has no `mallopt` (other systems than Linux with glibc).
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _count(libc, 1)
    try:
        yield
    finally:
        _count(libc, -1)


def _count(libc: ctypes.CDLL, change: int) -> None:
    global _users
    with _lock:
        _users += change
        if (_users, change) == (1, 1):
            libc.mallopt(_MMAP_MAX, 0)
            libc.mallopt(_TRIM_THRESHOLD, _KEEP)
        elif _users == 0:
            libc.mallopt(_MMAP_MAX, _MAPPED_DEFAULT)
            libc.mallopt(_MMAP_THRESHOLD, _LARGE)
            libc.mallopt(_TRIM_THRESHOLD, _KEEP_AFTER)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except (OSError, TypeError):  # no such library on this system
        return None
