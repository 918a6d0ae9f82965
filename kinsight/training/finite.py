"""Numbers that are not finite end a run before they can spoil what is kept."""

import math

import torch
from torch import Tensor

from kinsight.data import Batch
from kinsight.errors import RunError
from kinsight.metrics.blocks import all_finite
from kinsight.parallel.collectives import rank
from kinsight.training.prepared import Prepared


def stop_unless_finite_loss(loss: Tensor, stats: dict[str, Tensor], prepared: Prepared, batch: Batch) -> None:
    """Raises RunError, with what could help to find the cause, before the optimizer steps."""
    value = float(loss.detach())
    if math.isfinite(value):
        return
    position, broken = prepared.training.position, _broken_weights(prepared)
    terms = ", ".join(f"{name} {float(term):g}" for name, term in stats.items() if name != "loss")
    where = f"weights that are not finite: {', '.join(broken[:3])}" if broken else "all weights are finite"
    raise RunError(
        "run.not-finite",
        f"the loss is {value} at step {position.step} (epoch {position.epoch}, rank {rank()}); no step was taken; "
        f"{terms}; {_circumstances(prepared)}; {where}; "
        f"the batch began with {prepared.records.uri(int(batch.index_B[0]))}",
        remedy=_remedy(prepared),
    )


def stop_unless_finite_weights(prepared: Prepared) -> None:
    """Raises RunError: weights that are not finite are no state to keep or to judge."""
    broken = _broken_weights(prepared)
    if broken:
        raise RunError(
            "run.not-finite",
            f"weights are not finite after step {prepared.training.position.step}, which is not saved: "
            f"{', '.join(broken[:3])}; {_circumstances(prepared)}",
            remedy=_remedy(prepared),
        )


def stop_unless_finite_outputs(emb_ND: Tensor, prepared: Prepared) -> None:
    """Raises RunError: weights may be finite and what they make of validation images not. emb_ND: of any kind."""
    if all_finite(emb_ND):
        return
    raise RunError(
        "run.not-finite",
        f"validation after step {prepared.training.position.step}: the model's outputs are not finite (the training "
        f"diverged); {_circumstances(prepared)}",
        remedy=_remedy(prepared),
    )


def _remedy(prepared: Prepared) -> str:
    """What may help, without what is so already."""
    clip = "" if prepared.spec.clip_norm is not None else ", set clip_norm"
    wider = {"fp16": ", or set precision to bf16 or fp32", "bf16": ", or set precision to fp32"}
    return (
        f"lower optimizer.lr{clip}, add warm-up (schedule.warmup_steps){wider.get(prepared.arithmetic.name, '')}; "
        "checkpoints written before are intact"
    )


def _circumstances(prepared: Prepared) -> str:
    rate = prepared.training.optimizer.param_groups[0]["lr"]
    return f"learning rate {rate:.3g}, {prepared.arithmetic.name}"


def _broken_weights(prepared: Prepared) -> list[str]:
    named = dict(prepared.training.learner.state_dict())
    finite = torch.stack([tensor.isfinite().all() for tensor in named.values()]).tolist()
    return [name for name, fine in zip(named, finite, strict=True) if not fine]
