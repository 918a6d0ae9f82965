"""Scores of lists: what a router gives for all of them, and the greatest of them without reckoning all in float32.

On CPUs with integer dot instructions, where lists are many, products of numbers rounded to 8 bits propose some lists
more than are wanted, and float32 decides among these: half the time, and hardly ever another list. What is the same for
all lists of a query, the mean of the weights, is taken off before, as the mean of the centres is taken off queries:
what is left is small, and so are its errors.

Shapes: B queries, L lists, R routed dimensions, W proposed lists, P wanted lists.
"""

import math

import numpy as np
import torch
from torch import Tensor

from kinsight.indexing.untyped import faiss
from kinsight.neighbors.coarse import has_int8
from kinsight.neighbors.greatest import greatest

_LEVELS = 127
_LEAST_ROWS = 17  # of an integer product
_LEAST_NUMBERS = 2**17  # of all lists: with fewer, float32 is as quick
_MORE, _SHARE_MORE = 8, 0.25  # lists proposed beyond those wanted
_SCORES = 2**20  # of a block: what a core's cache nearly holds
_ROWS = (32, 1024)  # of a block


class ListScores:
    """weight_LR, bias_L: of the router. centre_R: of usual queries."""

    def __init__(self, weight_LR: Tensor, bias_L: Tensor, centre_R: Tensor) -> None:
        self._weight_LR, self._bias_L, self._centre_R = weight_LR.contiguous(), bias_L, centre_R
        centred_LR = weight_LR - weight_LR.mean(0)
        self._coded_bias_L = bias_L + centred_LR @ centre_R
        self._unit = max(float(centred_LR.abs().max()) / _LEVELS, 1e-30)
        self._code_RL = (centred_LR / self._unit).round_().to(torch.int8).T
        self._proposes = weight_LR.numel() >= _LEAST_NUMBERS and has_int8(weight_LR.device)

    @property
    def rows(self) -> int:
        """Queries to be asked for at once."""
        return min(max(_SCORES // len(self._bias_L), _ROWS[0]), _ROWS[1])

    def all(self, routed_BR: Tensor) -> Tensor:
        """float32 (B, L)."""
        return torch.addmm(self._bias_L, routed_BR, self._weight_LR.T)

    def greatest(self, routed_BR: Tensor, wanted: int, gone_L: Tensor | None) -> Tensor:
        """Lists of greatest score, the greatest first: int64 (B, P). gone_L: bool, lists that come last."""
        proposed = math.ceil((1 + _SHARE_MORE) * wanted) + _MORE
        if not self._proposes or len(routed_BR) < _LEAST_ROWS or 2 * proposed > len(self._bias_L):
            return greatest(_without(self.all(routed_BR), gone_L), wanted)[1]
        list_BW = greatest(_without(self._coded(routed_BR), gone_L), proposed)[1]
        score_BW = _without(self._some(routed_BR, list_BW), None if gone_L is None else gone_L[list_BW])
        return list_BW.gather(1, greatest(score_BW, wanted)[1])

    def _coded(self, routed_BR: Tensor) -> Tensor:
        """Scores, but for what is the same for all lists of a query, and for what rounding changes: (B, L)."""
        centred_BR = routed_BR - self._centre_R
        unit_B1 = (centred_BR.abs().amax(1, keepdim=True) / _LEVELS).clamp_min(1e-30)
        product_BL = torch.ops.aten._int_mm(centred_BR.div_(unit_B1).round_().to(torch.int8), self._code_RL)
        return torch.mul(product_BL, unit_B1 * self._unit).add_(self._coded_bias_L)

    def _some(self, routed_BR: Tensor, list_BW: Tensor) -> Tensor:
        """Scores of some lists of each query: (B, W)."""
        # named, not temporary: faiss takes pointers
        query_BR, place_BW = np.ascontiguousarray(routed_BR.numpy()), np.ascontiguousarray(list_BW.numpy())
        weight_LR, out_BW = self._weight_LR.numpy(), np.empty(place_BW.shape, np.float32)
        swig = faiss.swig_ptr
        faiss.fvec_inner_products_by_idx(
            swig(out_BW), swig(query_BR), swig(weight_LR), swig(place_BW), query_BR.shape[1], *place_BW.shape
        )
        return torch.from_numpy(out_BW).add_(self._bias_L[list_BW])


def _without(score_BL: Tensor, gone: Tensor | None) -> Tensor:
    return score_BL if gone is None else score_BL.masked_fill_(gone, -torch.inf)
