"""Copies by IVFast's documented rule, for more vectors than fit beside their similarities to all lists.

A vector's further lists are among the `fuzzy` whose centres are nearest; all such pairs are ranked together by how near
the further centre comes to the nearest one, and the first `percent` times N become copies. One ranking serves every
percent; `copies.by_ratio` gives the same pairs to the interface of all rules.

Shapes: N vectors, L lists, F further lists considered of a vector, B vectors of a block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.partition.clusters import Clusters

FUZZY, MOST_FUZZY = 3, 10
_NUMBERS = 1 << 25  # held at once: 128 MB of float32


@dataclass(frozen=True)
class Further:
    """Of each vector its list, int32 (N,), and lists that copies may go to: int32 (N, F), -1 for none, gain float32."""

    list_N: Tensor
    other_NF: Tensor
    gain_NF: Tensor

    @classmethod
    def joined(cls, parts: "list[Further]") -> "Further":
        """Those of blocks that follow each other."""
        lists, others, gains = zip(*((each.list_N, each.other_NF, each.gain_NF) for each in parts), strict=True)
        return cls(torch.cat(lists), torch.cat(others), torch.cat(gains))


def fuzzy_of(percent: float) -> int:
    """Nearest lists of a vector that are considered, its own included."""
    return max(FUZZY, 1 + -int(-percent // 1))


def further(row_NR: Tensor, clusters: Clusters, *, fuzzy: int, cosine: bool) -> Further:
    """What `copies_at` ranks. row_NR: routed vectors, on the device of `clusters`; results are on the CPU.

    cosine: gain is the similarity of the further centre over the nearest one's; otherwise the nearest one's squared
    distance over the further one's.
    """
    parts = []
    offset_L, square_L = clusters.offset_L, clusters.centre_LD.square().sum(1)
    fuzzy = min(fuzzy, len(offset_L))
    for row_BR in row_NR.split(max(1, _NUMBERS // len(offset_L))):
        product_BL = row_BR @ clusters.centre_LD.T
        list_B = (product_BL - offset_L).argmax(1)
        if cosine:
            near_BF, other_BF = product_BL.topk(fuzzy, dim=1)
            gain_BF = near_BF / near_BF[:, :1].clamp_min(1e-12)
        else:
            far_BL = square_L - 2 * product_BL
            near_BF, other_BF = far_BL.topk(fuzzy, dim=1, largest=False)
            near_BF = (near_BF + row_BR.square().sum(1, keepdim=True)).clamp_min(0)
            gain_BF = near_BF[:, :1] / near_BF.clamp_min(1e-12)
        own_BF = other_BF == list_B[:, None]
        gain_BF = gain_BF.masked_fill(own_BF, -torch.inf)
        parts.append(Further(list_B.int().cpu(), other_BF.masked_fill(own_BF, -1).int().cpu(), gain_BF.cpu()))
    return Further.joined(parts)


def ranks(found: Further, fuzzy: int) -> Tensor:
    """The place of each pair in the order in which copies are made, int64 (N, fuzzy); equal gains: lower rows first.

    fuzzy: of the nearest lists as many as this.
    """
    gain_M = found.gain_NF[:, :fuzzy].flatten()
    order_M = gain_M.argsort(descending=True, stable=True)
    rank_M = torch.empty_like(order_M)
    rank_M[order_M] = torch.arange(len(order_M))
    return rank_M.view(-1, min(fuzzy, found.gain_NF.shape[1]))


def copies_at(found: Further, rank_NF: Tensor, percent: float) -> Tensor:
    """The lists of every vector at this many copies per vector, int32 (N, 1 + F): its own first, -1 for none."""
    taken = round(percent * len(found.list_N))
    other_NF = found.other_NF[:, : rank_NF.shape[1]]
    other_NF = torch.where((rank_NF < taken) & (other_NF >= 0), other_NF, -1)
    return torch.cat([found.list_N[:, None], other_NF], 1)
