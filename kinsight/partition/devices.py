"""Learning on all GPUs of a machine from one process: queries are divided among them, each sees every vector.

Shapes: B queries of a step, R routed dimensions, K neighbours, C copies of a neighbour at most.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from kinsight.partition.routers import Router, routing_loss


def devices_with(device: torch.device) -> tuple[torch.device, ...]:
    """A device and all others of the machine like it, itself first; under a launcher, which counts them out, itself."""
    if device.type != "cuda" or "LOCAL_RANK" in os.environ:
        return (device,)
    others = (torch.device("cuda", number) for number in range(torch.cuda.device_count()))
    return (device, *(other for other in others if other != device))


def loss_over(devices: Sequence[torch.device], router: Router, query_BR: Tensor, list_BKC: Tensor) -> Tensor:
    """`routing_loss` of a step, its queries in equal parts on each device; the router, and its gradient, lie on the
    first. Batch normalisation sees its part, and keeps the statistics of the first.
    """
    devices = devices[: len(query_BR)]
    if len(devices) == 1:
        return routing_loss(router(query_BR), list_BKC)
    state: dict[str, Tensor] = {**dict(router.named_parameters()), **dict(router.named_buffers())}
    parts = zip(devices, query_BR.tensor_split(len(devices)), list_BKC.tensor_split(len(devices)), strict=True)
    total = query_BR.new_zeros(())
    for number, (device, query_bR, list_bKC) in enumerate(parts):
        here = {name: each.to(device, copy=number > 0) for name, each in state.items()}
        score_bL = functional_call(router, here, (query_bR.to(device),))
        loss = routing_loss(score_bL, list_bKC.to(device))
        total = total + loss.to(total.device) * (len(query_bR) / len(query_BR))
    return total
