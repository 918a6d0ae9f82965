"""Rare classes: weights and shifts of logits, from how many training images show each."""

from typing import assert_never

import torch
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.losses.head import ClassHead
from kinsight.losses.label_head import LabelHead
from kinsight.specs.label_losses import MOST_POSITIVE_WEIGHT
from kinsight.specs.tasks import ClassBalanced, EqualClasses, LogitAdjustment, LongTail


def effective_weights(count_C: Tensor, *, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n) of each class, scaled to mean 1 over those that have images: float32 (C,).

    count_C: images of each class; one without any weighs 1, and decides about no other. beta: 0 to below 1.
    Cui et al. 2019, section 4.
    """
    there_C = count_C > 0
    weight_C = (1 - beta) / (1 - beta ** count_C.to(torch.float64).clamp_min(1))
    return torch.where(there_C, weight_C / weight_C[there_C].mean(), 1.0).float()


def class_shift(count_C: Tensor, *, tau: float) -> Tensor:
    """tau log(share of the images) of each class: float32 (C,). Menon et al. 2021, eq. 10."""
    n_C = count_C.to(torch.float64).clamp_min(1)
    return (tau * (n_C / n_C.sum()).log()).float()


def label_shift(count_C: Tensor, known_C: Tensor, *, tau: float) -> Tensor:
    """The same where each label is a question of its own: tau log(positives / negatives), float32 (C,).

    known_C: images of which it is known whether they show the label.
    """
    positive_C = count_C.to(torch.float64).clamp_min(1)
    negative_C = (known_C - count_C).to(torch.float64).clamp_min(1)
    return (tau * (positive_C / negative_C).log()).float()


def balancing_weights(count_C: Tensor, known_C: Tensor) -> Tensor:
    """Negatives / positives of each label, MOST_POSITIVE_WEIGHT at most, 1 for one without positives or without
    negatives: float32 (C,).
    """
    negative_C = known_C - count_C
    usable_C = (count_C > 0) & (negative_C > 0)
    return torch.where(usable_C, negative_C / count_C.clamp_min(1), 1.0).clamp_max(MOST_POSITIVE_WEIGHT).float()


def apply_long_tail(spec: LongTail, head: ClassHead | LabelHead, count_C: Tensor, known_C: Tensor) -> None:
    """Let a head treat rare classes as `spec` says. Raises SpecError where its loss has no place for that."""
    match spec:
        case EqualClasses():
            return
        case ClassBalanced():
            if head.whole_batch:
                raise _no_place("class-balanced", head)
            head.loss_weight_C = effective_weights(count_C, beta=spec.beta)
        case LogitAdjustment():
            if isinstance(head, LabelHead):
                if head.whole_batch:
                    raise _no_place("logit-adjustment", head)
                head.shift_C = label_shift(count_C, known_C, tau=spec.tau)
            else:
                if head.margin is not None or head.centres > 1 or head.whole_batch:
                    raise _no_place("logit-adjustment", head)
                head.shift_C = class_shift(count_C, tau=spec.tau)
        case _:
            assert_never(spec)


def _no_place(kind: str, head: object) -> SpecError:
    return SpecError(
        "loss.long-tail",
        f"{kind} has no place in {type(head).__name__}",
        field="long_tail.kind",
        remedy="choose another loss, such as softmax for one class an image, or bce for many labels",
    )
