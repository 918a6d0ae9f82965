"""Arithmetic the losses share: wide enough, and finite where the textbook formula is not."""

import numpy as np
import torch
from torch import Tensor

# Classes drawn from one generator. A block is always drawn whole: a shorter draw would not be its beginning.
_BLOCK = 256


def wide_dtype(*tensors: Tensor) -> torch.dtype:
    """float32, or float64 where a tensor has it: what losses are computed in, under autocast too."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Context in which products keep their operands' dtype."""
    return torch.autocast(tensor.device.type, enabled=False)


def unit_rows(x_ND: Tensor) -> Tensor:
    """Rows scaled to length 1, for any length that the dtype holds; zero rows stay zero and pass gradients unscaled."""
    largest_N1 = torch.linalg.vector_norm(x_ND.detach(), ord=float("inf"), dim=-1, keepdim=True)
    usable = largest_N1 > 1e8 * torch.finfo(x_ND.dtype).tiny
    # Largest entry 1 first: squares then neither overflow nor vanish, and a usable row is at least 1 long.
    near_one_ND = x_ND / torch.where(usable, largest_N1, 1)
    return near_one_ND / torch.linalg.vector_norm(near_one_ND, dim=-1, keepdim=True).clamp_min(1)


def row_lengths(x_ND: Tensor) -> Tensor:
    """Lengths of the rows (N,), float32 or wider."""
    return torch.linalg.vector_norm(x_ND.to(wide_dtype(x_ND)), dim=1)


def weighted_mean(value_B: Tensor, weight_B: Tensor | None) -> Tensor:
    """sum(w * v) / sum(w), or the plain mean; 0 (still in the graph) where there is nothing to average."""
    if weight_B is None:
        return value_B.sum() / max(value_B.shape[0], 1)
    weight_B = weight_B.to(value_B.dtype)
    return (value_B * weight_B).sum() / nonzero(weight_B.sum())


def nonzero(total: Tensor) -> Tensor:
    """`total`, or 1 where it is 0: a divisor for sums that are 0 then too."""
    return torch.where(total == 0, 1, total)


def class_rows(first: int, last: int, dim: int, *, seed: int, uniform: bool = False) -> Tensor:
    """Initial weights of classes first..last-1: float32 (last - first, dim), normal with rows about 1 long.

    uniform: U(-1/sqrt(dim), 1/sqrt(dim)) instead. Row j depends on `seed` and j alone, not on the interval, so any
    division of the classes over processes starts from the same weights.
    """
    blocks: list[Tensor] = []
    for block in range(first // _BLOCK, -(-last // _BLOCK)):
        generator = torch.Generator().manual_seed(mixed_seed(seed, block))
        start, stop = max(first - block * _BLOCK, 0), min(last - block * _BLOCK, _BLOCK)
        if uniform:
            rows = torch.rand(_BLOCK, dim, generator=generator) * 2 - 1
        else:
            rows = torch.randn(_BLOCK, dim, generator=generator)
        blocks.append(rows[start:stop])
    return torch.cat(blocks) * dim**-0.5


def mixed_seed(*parts: int) -> int:
    """One seed out of several numbers, such that neighbouring ones give unrelated streams."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
