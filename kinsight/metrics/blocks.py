"""Images times classes a block of rows at a time: what is computed on the way then takes no memory to speak of."""

from collections.abc import Iterator

from torch import Tensor

CELLS = 2**20


def row_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of each, about CELLS cells of the first at a time; of nothing, one empty block."""
    rows = max(1, CELLS // max(1, tensors[0].shape[1:].numel()))
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(block.isfinite().all()) for (block,) in row_blocks(values))
