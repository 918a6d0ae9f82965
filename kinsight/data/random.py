"""Randomness looked up by key instead of drawn in order: the same for any number of workers and after a resume."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """What numbers are for. Numbers of different purposes are independent; a value, once used, keeps its meaning."""

    CROP = 1
    SYMBOL = 2
    ORDER = 3
    CLASSES = 4
    SUPER_CLASSES = 5
    MIX_SHARE = 6
    MIX_PLACE = 7


_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd: successive multiples spread over all 64 bits
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


def _mix(word: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser: a bijection in which every input bit moves every output bit (Steele et al. 2014)."""
    word = (word ^ (word >> _SHIFTS[0])) * _MULTIPLIERS[0]
    word = (word ^ (word >> _SHIFTS[1])) * _MULTIPLIERS[1]
    return word ^ (word >> _SHIFTS[2])


def _absorb(state: npt.NDArray[np.uint64], word: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    added = np.asarray(word).astype(np.uint64) * _STEP + _STEP
    return _mix(state ^ _mix(added))


def words(
    seed: int, epoch: int, index_B: npt.ArrayLike, draws: int, *, purpose: Purpose = Purpose.CROP
) -> npt.NDArray[np.uint64]:
    """Random 64-bit words, shape (B, draws), that depend on nothing but the arguments, row by row.

    seed, epoch: from 0. index_B: int, one key a row (a record, a class). draws: words for each.
    """
    with np.errstate(over="ignore"):
        state = np.zeros(1, np.uint64)
        for key in (int(purpose), seed, epoch):
            state = _absorb(state, [key])
        rows = _absorb(state, np.asarray(index_B, np.int64).reshape(-1, 1))
        return _absorb(rows, np.arange(draws, dtype=np.uint64))


def uniform(
    seed: int, epoch: int, index_B: npt.ArrayLike, draws: int, *, purpose: Purpose = Purpose.CROP
) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), float64 of shape (B, draws), by the same keys as `words`."""
    return (words(seed, epoch, index_B, draws, purpose=purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffled(
    count: int, seed: int, epoch: int, *, purpose: Purpose = Purpose.ORDER, round_: int = 0
) -> npt.NDArray[np.int64]:
    """A random permutation of range(count); another one for each round."""
    key_N = words(seed, epoch, np.arange(count) + round_ * count, 1, purpose=purpose)[:, 0]
    return np.argsort(key_N, kind="stable")
