"""Spec -> optimizer, with its parameter groups."""

from typing import assert_never

import torch
from torch import nn

from kinsight.models import EmbeddingNet
from kinsight.specs.optim import Adam, AdamW, Optimizer, Sgd


def build_optimizer(spec: Optimizer, net: EmbeddingNet, objective: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over the network and the objective's class weights.

    The backbone's last layer has the schedule's rate, each below it `layer_decay` times that of the one above,
    everything else `head_lr_scale` times it; each group carries its factor as `lr_scale`. Weight decay
    applies to matrices and convolutions only: not to biases, normalisation, single numbers.
    """
    buckets: dict[tuple[float, float], list[nn.Parameter]] = {}

    def add(parameter: nn.Parameter, scale: float, decay: bool) -> None:
        buckets.setdefault((scale, spec.weight_decay if decay else 0.0), []).append(parameter)

    for tagged in net.tagged_parameters():
        scale = spec.layer_decay**tagged.above if tagged.part == "backbone" else spec.head_lr_scale
        add(tagged.parameter, scale, tagged.decay)
    for parameter in objective.parameters():
        add(parameter, spec.head_lr_scale, parameter.ndim > 1)
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
        case Adam():
            return torch.optim.Adam(
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
