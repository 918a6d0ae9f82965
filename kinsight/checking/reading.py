"""Every image of a set looked at once: arrays of facts and of small pictures, whatever the number of images."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kinsight import progress
from kinsight.checking.look import LOOK, SMALL, UNUSABLE, Limits, look
from kinsight.data import Records
from kinsight.data.processes import over_records
from kinsight.data.reading import REMOTE_READS

_BLOCK = 64
_IN_MEMORY = 2**28  # bytes of small pictures kept in memory; more lie in a file


@dataclass(frozen=True)
class Looked:
    """fact_N: LOOK. small_NHW: uint8 (N, SMALL, SMALL), all zero where unusable. reason: words on odd images."""

    fact_N: npt.NDArray[np.void]
    small_NHW: npt.NDArray[np.uint8]
    reason: dict[int, str]

    @property
    def usable_N(self) -> npt.NDArray[np.bool_]:
        """Which images could be read."""
        return (self.fact_N["flags"] & UNUSABLE) == 0


@contextmanager
def looked_at(records: Records, limits: Limits, *, workers: int) -> Iterator[Looked]:
    """Look at every image. Memory: some 70 bytes an image, and 1 KiB of small picture, in a file where they are many.

    Raises StorageError where images cannot be reached at all.
    """
    count = len(records)
    with tempfile.TemporaryDirectory(prefix="kinsight-check-") as scratch:
        shape = (count, SMALL, SMALL)
        small_NHW = (
            np.zeros(shape, np.uint8)
            if count * SMALL * SMALL <= _IN_MEMORY
            else np.lib.format.open_memmap(Path(scratch, "small.npy"), "w+", np.uint8, shape)
        )
        fact_N = np.zeros(count, LOOK)
        reason: dict[int, str] = {}
        blocks = [(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
        with progress.task("read", count, "images") as task:
            answers = over_records(partial(_look_block, limits), records, blocks, workers)
            for (start, stop), (facts, smalls, reasons) in zip(blocks, answers, strict=True):
                fact_N[start:stop], small_NHW[start:stop] = facts, smalls
                reason.update(reasons)
                task.advance(stop - start)
        yield Looked(fact_N, small_NHW, reason)


def _look_block(
    limits: Limits, records: Records, block: tuple[int, int]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint8], dict[int, str]]:
    numbers = range(*block)
    uris = records.table["uri"].slice(block[0], len(numbers)).to_pylist()
    see = partial(look, limits=limits)
    if any("://" in uri for uri in uris):  # waiting for a network, not working
        with ThreadPoolExecutor(REMOTE_READS) as pool:
            looks = list(pool.map(see, uris))
    else:
        looks = [see(uri) for uri in uris]
    facts = np.array([one.facts for one in looks], LOOK)
    reasons = {number: one.reason for number, one in zip(numbers, looks, strict=True) if one.reason}
    return facts, np.stack([one.small for one in looks]), reasons
