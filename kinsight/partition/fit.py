"""Training of a router on soft targets.

Shapes: N vectors of the sample, L lists, K neighbours, B of a step.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import RunError
from kinsight.parallel.device import Arithmetic
from kinsight.partition.devices import loss_over
from kinsight.partition.routers import Router, routing_loss
from kinsight.progress import warn


@dataclass
class FitState:
    """What a training goes on from. lr: highest rate, halved after a loss that is no number."""

    epoch: int
    lr: float
    router: dict[str, Tensor]
    optimizer: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class FitPlan:
    """epochs, warmup_epochs, batch_size, lr: as set; seed: of the order of vectors.
    loss_scale: what fp16 begins with; None: torch's. devices: that share each step; none: where the router is.
    """

    epochs: int
    warmup_epochs: float
    batch_size: int
    lr: float
    seed: int
    arithmetic: Arithmetic
    loss_scale: float | None = None
    devices: tuple[torch.device, ...] = ()


_MOST_HALVINGS = 20


def fit(
    router: Router,
    query_ND: Tensor,
    list_NKC: Tensor,
    plan: FitPlan,
    *,
    state: FitState | None = None,
    after_step: Callable[[int, float], None] | None = None,
    after_epoch: Callable[[FitState], None] | None = None,
) -> FitState:
    """Train in place; the state at the end.

    list_NKC: lists of each query's neighbours, int64, -1 none. state: to go on from. after_step: told images and loss.
    A loss that is not finite, or a network that is not after its last step, brings back the end of the last good epoch,
    and half the rate.
    """
    optimizer = torch.optim.AdamW(router.parameters(), lr=plan.lr, weight_decay=0.0)
    state = state or FitState(0, plan.lr, _copied(router))
    _restore(router, optimizer, state)
    halvings = 0
    while state.epoch < plan.epochs:
        loss = _epoch(router, optimizer, query_ND, list_NKC, plan, state, after_step)
        if math.isfinite(loss) and not _is_sound(router, query_ND, list_NKC, plan):
            loss = math.nan
        if math.isfinite(loss):
            kept = deepcopy(optimizer.state_dict())  # its tensors are the optimizer's own
            state = FitState(state.epoch + 1, state.lr, _copied(router), kept, [*state.losses, loss])
            if after_epoch is not None:
                after_epoch(state)
            continue
        halvings += 1
        if halvings > _MOST_HALVINGS:
            raise RunError(
                "partition.diverged",
                "the loss stays not finite, however low the rate",
                field=f"fit.lr={plan.lr:g}",
                remedy="look for vectors of extreme length"
                + ("" if plan.arithmetic.name == "fp32" else ", or set fit.precision to fp32"),
            )
        state = FitState(state.epoch, state.lr / 2, state.router, state.optimizer, state.losses)
        warn(
            f"epoch {state.epoch}: the loss is no number; going on from the last good state at the rate {state.lr:.3g}"
        )
        _restore(router, optimizer, state)
    return state


def _epoch(
    router: Router,
    optimizer: torch.optim.Optimizer,
    query_ND: Tensor,
    list_NKC: Tensor,
    plan: FitPlan,
    state: FitState,
    after_step: Callable[[int, float], None] | None,
) -> float:
    """One pass; the mean loss, or the first that is not finite. A function of state and plan, dropout included."""
    _seed(plan, state.epoch)
    router.train()
    device = query_ND.device
    order_N = torch.randperm(len(query_ND), generator=torch.Generator().manual_seed(plan.seed + state.epoch))
    steps = max(1, len(order_N) // plan.batch_size)
    scaler = plan.arithmetic.scaler(plan.loss_scale)
    total = 0.0
    for step, row_B in enumerate(order_N.tensor_split(steps)):
        here_B = row_B.to(device)
        for group in optimizer.param_groups:
            group["lr"] = state.lr * _rate(state.epoch + step / steps, plan)
        with plan.arithmetic.autocast():
            loss = loss_over(plan.devices or (device,), router, query_ND[here_B], list_NKC[here_B])
        if not math.isfinite(loss.item()):
            return loss.item()
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        total += loss.item()
        if after_step is not None:
            after_step(len(row_B), loss.item())
    return total / steps


def _seed(plan: FitPlan, epoch: int) -> None:
    """Dropout draws from the generators of the devices: an epoch finds the same ones, whatever was before it."""
    seeds = np.random.SeedSequence([plan.seed, epoch]).generate_state(1 + len(plan.devices))
    torch.manual_seed(int(seeds[0]))
    for device, seed in zip(plan.devices[1:], seeds[1:], strict=False):  # not all of them the same shares left out
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(seed))


@torch.no_grad()
def _is_sound(router: Router, query_ND: Tensor, list_NKC: Tensor, plan: FitPlan) -> bool:
    """Whether weights are numbers, and give some, after the last step, which no loss was reckoned from."""
    if not all(bool(each.isfinite().all()) for each in router.state_dict().values()):
        return False
    router.eval()
    some = slice(0, plan.batch_size)
    with plan.arithmetic.autocast():
        loss = routing_loss(router(query_ND[some]), list_NKC[some])
    return math.isfinite(loss.item())


def _rate(epoch: float, plan: FitPlan) -> float:
    """Share of the highest rate: rises evenly, then falls along a cosine."""
    if epoch < plan.warmup_epochs:
        return (epoch + 1e-3) / plan.warmup_epochs
    progress = (epoch - plan.warmup_epochs) / max(plan.epochs - plan.warmup_epochs, 1e-9)
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _copied(router: Router) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in router.state_dict().items()}


def _restore(router: Router, optimizer: torch.optim.Optimizer, state: FitState) -> None:
    router.load_state_dict(state.router)
    if state.optimizer:
        optimizer.load_state_dict(deepcopy(state.optimizer))
