"""Collectives that gradients flow through. Without a process group each is the identity.

Convention: every rank has a loss of its own and the quantity differentiated is their sum over the ranks. That makes
the adjoint of a gather a sum over ranks of the slices, and of a sum over ranks another sum over ranks.
All ranks must call the same collectives in the same order, in the backward pass too: keep the graph free of
branches on data that only one rank sees.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

Group = dist.ProcessGroup | None


def world_size(group: Group = None) -> int:
    """Number of ranks in `group` (default: all); 1 without a process group."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank(group: Group = None) -> int:
    """This process's place in `group`; 0 without a process group."""
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def all_reduce_sum(tensor: Tensor, group: Group = None) -> Tensor:
    """Sum over ranks of a tensor of equal shape on each; the gradient is summed over ranks likewise."""
    return tensor if world_size(group) == 1 else _AllReduceSum.apply(tensor, group)


def row_counts(num_rows: int, device: torch.device, group: Group = None) -> list[int]:
    """How many rows each rank has, in rank order. Waits for the device."""
    world = world_size(group)
    if world == 1:
        return [num_rows]
    counts = torch.zeros(world, dtype=torch.int64, device=device)
    counts[rank(group)] = num_rows
    dist.all_reduce(counts, group=group)
    return counts.tolist()


def all_gather_rows(rows: Tensor, group: Group = None, *, counts: Sequence[int] | None = None) -> Tensor:
    """Rows (first dimension) of all ranks, one rank after the other; the ranks may have different numbers of rows.

    rows: (n_rank, ...), any dtype; floating ones carry a gradient: the sum over ranks of the gradients of this rank's
    slice, computed in float32 at least. counts: what `row_counts` returns, where the caller has it already.
    """
    if world_size(group) == 1:
        return rows
    if counts is None:
        counts = row_counts(rows.shape[0], rows.device, group)
    assert counts[rank(group)] == rows.shape[0], f"counts={list(counts)} against {rows.shape[0]} rows here"
    return _AllGatherRows.apply(rows, tuple(counts), group)


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Group) -> Tensor:
        ctx.group = group
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None


class _AllGatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: tuple[int, ...], group: Group) -> Tensor:
        ctx.counts, ctx.group = counts, group
        return _gather(rows.detach(), counts, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad = grads[0]
        wide = torch.promote_types(grad.dtype, torch.float32)
        total = grad.to(wide, copy=True, memory_format=torch.contiguous_format)
        # Half of what an all-reduce moves would do (a reduce-scatter), but only for equal row counts; B x D is small.
        dist.all_reduce(total, group=ctx.group)
        own = rank(ctx.group)
        start = sum(ctx.counts[:own])
        return total[start : start + ctx.counts[own]].to(grad.dtype), None, None


def _gather(rows: Tensor, counts: Sequence[int], group: Group) -> Tensor:
    """Equal-sized gather of rows padded to the longest rank's, since gloo has no other; then the padding is cut."""
    longest = max(counts)
    padded = rows.contiguous()
    if rows.shape[0] < longest:
        padded = torch.cat([padded, padded.new_zeros(longest - rows.shape[0], *rows.shape[1:])])
    gathered = padded.new_empty(len(counts), *padded.shape)
    dist.all_gather(list(gathered.unbind(0)), padded, group=group)
    if min(counts) == longest:
        return gathered.flatten(0, 1)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])
