"""The greatest of each row, without comparing all of them with each other.

Shapes: B rows, N columns, G members of a group.
"""

import torch
from torch import Tensor

_WORTH_IT = 4  # groups for each wanted place below which nothing is ruled out
_LONG = 1024


def greatest(score_BN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `score_BN.topk(k)`: values and int64 columns, greatest first; of equal ones any. k at most N.

    The k greatest lie in the k groups whose greatest members are greatest, and finding those takes one pass.
    """
    members = 4 if score_BN.shape[1] < _LONG else 8
    width = score_BN.shape[1] // members
    if width < _WORTH_IT * k:
        return score_BN.topk(k, dim=1)
    most_BG = score_BN[:, : members * width].unflatten(1, (members, width)).amax(1)
    group_BK = most_BG.topk(k, dim=1, sorted=False).indices
    step_M1 = torch.arange(members, device=score_BN.device)[:, None] * width
    place_BP = (group_BK[:, None, :] + step_M1).flatten(1)
    if members * width < score_BN.shape[1]:
        rest_R = torch.arange(members * width, score_BN.shape[1], device=score_BN.device)
        place_BP = torch.cat([place_BP, rest_R.expand(len(score_BN), -1)], 1)
    value_BK, order_BK = score_BN.gather(1, place_BP).topk(k, dim=1)
    return value_BK, place_BP.gather(1, order_BK)
