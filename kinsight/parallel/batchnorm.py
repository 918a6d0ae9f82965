"""Batch normalisation over the samples of all ranks, on any device and backend, with uneven batches.

torch's own SyncBatchNorm refuses CPU tensors. This one makes N processes compute what one process computes on the
concatenated batch: one gather in the forward pass (count, mean and squared deviations per channel), one sum in the
backward pass (Ioffe & Szegedy 2015, algorithm 1 and the gradients after it).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from kinsight.parallel.collectives import Group, world_size

# timm's BatchNormAct2d keeps its dropout and activation inside the norm, under these names and in this order.
_AFTER = ("drop", "act")


class SyncBatchNorm(_BatchNorm):
    """Drop-in for BatchNorm1d/2d/3d whose training statistics are those of all ranks of `group`.

    Input (n, C) or (n, C, ...), n may differ between ranks and be 0 on some; statistics in float32 at least, output in
    the input's dtype. In evaluation, or with one rank, it is torch's batch norm.
    Raises ValueError when there is one value per channel over all ranks, as torch does.
    """

    group: Group = None

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (n, C) or (n, C, ...) input, got {input.dim()}D")

    def forward(self, input: Tensor) -> Tensor:
        if world_size(self.group) == 1 or not self.training:
            output = super().forward(input)
        else:
            self._check_input_dim(input)
            output, mean_C, var_C, count = _Normalize.apply(input, self.weight, self.bias, self.eps, self.group)
            self._track(mean_C, var_C, count)
        for name in _AFTER:
            if name in self._modules:
                output = self.get_submodule(name)(output)
        return output

    def _track(self, mean_C: Tensor, var_C: Tensor, count: Tensor) -> None:
        """Move the running statistics as torch does: unbiased variance; momentum None means the plain average."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            factor = 1.0 / self.num_batches_tracked.to(mean_C.dtype) if self.momentum is None else self.momentum
            unbiased_C = var_C * (count / (count - 1))
            self.running_mean.add_((mean_C - self.running_mean) * factor)
            self.running_var.add_((unbiased_C - self.running_var) * factor)


def convert(module: nn.Module, group: Group = None) -> nn.Module:
    """Replace every BatchNorm1d/2d/3d inside `module` (or itself) by a SyncBatchNorm; returns the module.

    Parameters and buffers stay the same tensors under the same names. timm's BatchNormAct2d keeps its activation.
    Raises TypeError on any other subclass of batch norm, whose behaviour it cannot know.
    """
    if isinstance(module, _BatchNorm):
        return module if isinstance(module, SyncBatchNorm) else _replace(module, group)
    for name, child in module.named_children():
        synchronised = convert(child, group)
        if synchronised is not child:
            setattr(module, name, synchronised)
    return module


def _replace(old: _BatchNorm, group: Group) -> SyncBatchNorm:
    plain = type(old) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    with_act = isinstance(old, nn.BatchNorm2d) and all(name in old._modules for name in _AFTER)
    if not (plain or with_act):
        raise TypeError(f"cannot synchronise {type(old).__name__}: only BatchNorm1d/2d/3d and timm's BatchNormAct2d")
    new = SyncBatchNorm(old.num_features, old.eps, old.momentum, affine=False, track_running_stats=False, device="meta")
    new.affine, new.track_running_stats = old.affine, old.track_running_stats
    new.weight, new.bias = old.weight, old.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        new.register_buffer(name, getattr(old, name))
    if with_act:
        for name in _AFTER:
            new.add_module(name, old.get_submodule(name))
    new.group = group
    return new.train(old.training)


class _Normalize(torch.autograd.Function):
    """(x, weight, bias) -> (y, mean_C, var_C, count), the last three over all ranks and without gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_C: Tensor | None, bias_C: Tensor | None, eps: float, group: Group
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count, mean_C, var_C = _global_moments(wide, group)
        inv_std_C = torch.rsqrt(var_C + eps)
        scale_C = inv_std_C if weight_C is None else inv_std_C * weight_C
        y = (wide - _per_channel(mean_C, x)) * _per_channel(scale_C, x)
        if bias_C is not None:
            y = y + _per_channel(bias_C, x)
        ctx.save_for_backward(x, weight_C, mean_C, inv_std_C, count)
        ctx.has_bias, ctx.group = bias_C is not None, group
        ctx.mark_non_differentiable(mean_C, var_C, count)
        return y.to(x.dtype), mean_C, var_C, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight_C, mean_C, inv_std_C, count = ctx.saved_tensors
        grad = grads[0].to(mean_C.dtype)
        dims = _sample_dims(x)
        unit = (x.to(mean_C.dtype) - _per_channel(mean_C, x)) * _per_channel(inv_std_C, x)
        sums_2C = torch.stack([grad.sum(dims), (grad * unit).sum(dims)])
        grad_bias_C = sums_2C[0].clone() if ctx.has_bias else None
        grad_weight_C = sums_2C[1].clone() if weight_C is not None else None
        dist.all_reduce(sums_2C, group=ctx.group)
        mean_grad_C, mean_product_C = sums_2C / count
        scale_C = inv_std_C if weight_C is None else inv_std_C * weight_C
        centred = grad - _per_channel(mean_grad_C, x) - unit * _per_channel(mean_product_C, x)
        return (centred * _per_channel(scale_C, x)).to(x.dtype), grad_weight_C, grad_bias_C, None, None


def _global_moments(x: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Count (0-d), mean_C and biased var_C over all ranks, joined from each rank's own (Chan et al. 1983, eq. 2.1)."""
    channels, dims = x.shape[1], _sample_dims(x)
    num = x.numel() // channels
    if num:
        var_C, mean_C = torch.var_mean(x, dims, correction=0)
    else:
        var_C = mean_C = x.new_zeros(channels)
    local = torch.cat([mean_C, var_C, x.new_full((1,), num)])
    gathered = local.new_empty(world_size(group), local.numel())
    dist.all_gather(list(gathered.unbind(0)), local, group=group)
    means_RC, vars_RC, counts_R1 = gathered.split([channels, channels, 1], dim=1)
    count = counts_R1.sum()
    # The number of ranks' rows is known to all alike, so all raise or none.
    if x.device.type == "cpu" and count <= 1:
        raise ValueError(f"batch norm needs more than 1 value per channel over all ranks, got {int(count)}")
    share_R1 = counts_R1 / count
    mean = (means_RC * share_R1).sum(0)
    var = ((vars_RC + (means_RC - mean).square()) * share_R1).sum(0)
    return count, mean, var


def _sample_dims(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _per_channel(values_C: Tensor, x: Tensor) -> Tensor:
    return values_C.view(1, -1, *[1] * (x.dim() - 2))
