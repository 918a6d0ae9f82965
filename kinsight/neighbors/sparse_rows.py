"""Rows with few numbers that are not zero: stored, gathered, summed in a fixed order."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SparseRows:
    """Row r owns entries start_U[r] : start_U[r + 1] of column_E (int32, ascending) and value_E (float64)."""

    start_U: Tensor
    column_E: Tensor
    value_E: Tensor

    def __len__(self) -> int:
        return len(self.start_U) - 1

    @property
    def device(self) -> torch.device:
        return self.start_U.device

    @cached_property
    def longest(self) -> int:
        return max(1, int(self.start_U.diff().max()))

    @property
    def mean(self) -> int:
        """Entries of a row on average, rounded up."""
        return -(-len(self.column_E) // max(1, len(self)))

    def counts(self, row_M: Tensor) -> Tensor:
        return self.start_U[row_M + 1] - self.start_U[row_M]

    def gather(self, row_M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(position in row_M, column, value) of all entries of these rows, one row after the other."""
        count_M = self.counts(row_M)
        member_E = torch.repeat_interleave(torch.arange(len(row_M), device=self.device), count_M)
        offset_M = self.start_U[row_M] - (count_M.cumsum(0) - count_M)
        entry_E = torch.arange(len(member_E), device=self.device) + offset_M[member_E]
        return member_E, self.column_E[entry_E], self.value_E[entry_E]

    def dense(self, here: slice) -> Tensor:
        """These rows with their zeros, float64 (B, U)."""
        start, stop = int(self.start_U[here.start]), int(self.start_U[here.stop])
        row_B = torch.arange(here.stop - here.start, device=self.device)
        row_E = torch.repeat_interleave(row_B, self.start_U[here.start : here.stop + 1].diff())
        out_BU = torch.zeros(len(row_B), len(self), dtype=torch.float64, device=self.device)
        out_BU[row_E, self.column_E[start:stop].long()] = self.value_E[start:stop]
        return out_BU

    def sums(self) -> Tensor:
        """float64 (U,), added in order of the columns."""
        return torch.segment_reduce(self.value_E, "sum", lengths=self.start_U.diff())


def joined_rows(blocks: Iterable[tuple[Tensor, Tensor, Tensor]], number: int) -> SparseRows:
    """Rows from blocks that follow each other: (entries of each row, columns, values)."""
    count, column, value = zip(*blocks, strict=True)
    start_U = torch.zeros(number + 1, dtype=torch.int64, device=count[0].device)
    torch.cumsum(torch.cat(count), 0, out=start_U[1:])
    return SparseRows(start_U, torch.cat(column), torch.cat(value))
