"""Spec -> optimizer, with its parameter groups."""

from typing import assert_never

import torch
from torch import nn

from kinsight.specs.optim import AdamW, Optimizer, Sgd


def build_optimizer(spec: Optimizer, backbone: nn.Module, learner: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over all parameters of `learner`, of which those of `backbone` have the plain rate.

    Weight decay applies to matrices and convolutions only: not to biases, normalisation layers and single numbers.
    Each group carries `lr_scale`, its rate relative to the schedule's.
    """
    in_backbone = {id(parameter) for parameter in backbone.parameters()}
    buckets: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in learner.parameters():
        if parameter.requires_grad:
            scale = 1.0 if id(parameter) in in_backbone else spec.head_lr_scale
            decay = spec.weight_decay if parameter.ndim > 1 else 0.0
            buckets.setdefault((scale, decay), []).append(parameter)
    groups = [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay, "lr": spec.lr * scale}
        for (scale, decay), parameters in buckets.items()
    ]
    match spec:
        case Sgd():
            return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov)
        case AdamW():
            # Fused everywhere it exists: on a CPU it is one pass over memory instead of a dozen.
            return torch.optim.AdamW(
                groups, lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=_fused(groups)
            )
        case _:
            assert_never(spec)


def _fused(groups: list[dict]) -> bool:
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return devices <= {"cpu", "cuda"}


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
