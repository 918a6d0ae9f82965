"""Distances that losses over pairs can be told to use, from a block's products."""

from typing import Literal, assert_never

from torch import Tensor

from kinsight.losses.block import Block

Distance = Literal["euclidean", "squared-euclidean", "cosine"]
_LEAST_SQUARED = 1e-12
"""Below it a Euclidean distance has no gradient: the root's grows beyond all bounds at 0, where a copy lies."""


def distances(block: Block, distance: Distance) -> Tensor:
    """(A, B), from 0. cosine: 1 - the cosine, half the squared distance of unit rows."""
    match distance:
        case "euclidean":
            return block.squared(_LEAST_SQUARED).sqrt()
        case "squared-euclidean":
            return block.squared()
        case "cosine":
            return 1 - block.dot_AB
    assert_never(distance)
