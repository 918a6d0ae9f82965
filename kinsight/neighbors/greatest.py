"""The greatest of each row, without comparing all of them with each other.

The k greatest lie in the k groups whose greatest members are greatest, and finding these takes one pass. What is left
is short, and NumPy sorts short rows of whole numbers in registers, six times quicker than torch chooses from them: a
number with its column behind it is one whole number of 64 bits that orders as the number does. Only torch shares rows
among threads: with many of them it is the quicker one.

Shapes: B rows, N columns, M members of a group, W columns or groups to choose from, P places.
"""

import numpy as np
import torch
from torch import Tensor

_SHORT = 256  # columns that are sorted in registers
_CHOOSING = 6  # times that choosing from a longer row takes for each column
_MEMBERS = (1, 2, 4, 8, 16, 32, 64, 128)
_FEW_THREADS = 4
_FEW_ROWS = 16  # for which a call of torch is all it takes
_COLUMN = 2**32 - 1


def greatest(score_BN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `score_BN.topk(k)`: values and int64 columns, greatest first; of equal ones any. float32, none of them NaN; k
    at most N.
    """
    rows, columns = score_BN.shape
    if rows < _FEW_ROWS:
        return score_BN.topk(k, dim=1)
    members = min((each for each in _MEMBERS if columns // each >= k), key=lambda each: _cost(columns, k, each))
    if members == 1:
        return _chosen(score_BN, k)
    width = columns // members
    most_BW = score_BN[:, : members * width].unflatten(1, (members, width)).amax(1)
    group_BK = _chosen(most_BW, k)[1]
    step_M1 = torch.arange(members, device=score_BN.device)[:, None] * width
    place_BP = (group_BK[:, None, :] + step_M1).flatten(1)
    if members * width < columns:
        rest_R = torch.arange(members * width, columns, device=score_BN.device)
        place_BP = torch.cat([place_BP, rest_R.expand(len(score_BN), -1)], 1)
    value_BK, order_BK = _chosen(score_BN.gather(1, place_BP), k)
    return value_BK, place_BP.gather(1, order_BK)


def _cost(columns: int, k: int, members: int) -> int:
    """Of one row, with groups of so many."""
    if members == 1:
        return _cost_of_choosing(columns)
    width = columns // members
    return _cost_of_choosing(width) + _cost_of_choosing(members * k + columns - members * width)


def _cost_of_choosing(columns: int) -> int:
    return columns if columns <= _SHORT else _CHOOSING * columns


def _chosen(score_BW: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k greatest and their columns, greatest first."""
    if score_BW.device.type != "cpu" or score_BW.shape[1] > _SHORT or torch.get_num_threads() > _FEW_THREADS:
        return score_BW.topk(k, dim=1)
    key_BW = _keys(score_BW)
    key_BW.numpy().sort(axis=1)
    order_BK = key_BW[:, -k:].flip(1) & _COLUMN
    return score_BW.gather(1, order_BK), order_BK


def _keys(score_BW: Tensor) -> Tensor:
    """int64 (B, W): the number in the upper half, so that it orders as whole numbers do, its column in the lower."""
    bits_BW = score_BW.contiguous().view(torch.int32)
    half_BW2 = torch.empty(*bits_BW.shape, 2, dtype=torch.int32)
    half_BW2[..., _UPPER] = bits_BW ^ ((bits_BW >> 31) & 0x7FFFFFFF)  # of negative ones all bits but the sign turned
    half_BW2[..., 1 - _UPPER] = torch.arange(bits_BW.shape[1], dtype=torch.int32)
    return half_BW2.view(torch.int64).squeeze(2)


_UPPER = int(np.little_endian)  # half of a number of 64 bits in memory
