"""What depends on classes: the per-class table and confidence intervals over classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError

LEAST_CLASSES = 10  # to speak of other classes at all: of five right ones, every resample is right
_CELLS = 2**22  # resampling counts held at a time


@dataclass(frozen=True)
class ClassTable:
    """class_C: int64, ascending; count_C: its queries that have a positive; column: name -> mean, float64 (C,)."""

    class_C: Tensor
    count_C: Tensor
    column: dict[str, Tensor]


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def class_table(
    class_Q: Tensor, per_query: Mapping[str, Tensor], names: Sequence[str] = ("recall@1", "r_precision", "map@r")
) -> ClassTable:
    """Means per class of the named metrics; classes without any query that has a positive are left out."""
    class_C, count_C, sum_MC = _sums(class_Q, [per_query[name] for name in names])
    return ClassTable(class_C, count_C, {name: sum_C / count_C for name, sum_C in zip(names, sum_MC, strict=True)})


def label_table(
    labels_QL: Tensor, per_query: Mapping[str, Tensor], names: Sequence[str] = ("recall@1", "r_precision", "map@r")
) -> ClassTable:
    """`class_table` for several labels a query, int64 (Q, L) padded with -1: a query counts under each of them."""
    row_M, place_M = (labels_QL >= 0).nonzero(as_tuple=True)
    return class_table(labels_QL[row_M, place_M], {name: per_query[name].cpu()[row_M] for name in names}, names)


def bootstrap_intervals(
    class_Q: Tensor,
    per_query: Mapping[str, Tensor],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of each metric's mean, resampling whole classes with replacement (cluster bootstrap).

    Items of a class stand or fall together, so resampling single queries would promise too much. Deterministic for a
    seed. Raises DataError below LEAST_CLASSES. Davison & Hinkley 1997, section 3.8; Efron 1979.
    """
    names = list(per_query)
    class_C, count_C, sum_MC = _sums(class_Q, [per_query[name] for name in names])
    if len(class_C) < LEAST_CLASSES:
        raise DataError(
            "metrics.few-classes",
            f"{len(class_C)} classes with matches say too little about others; intervals need {LEAST_CLASSES}",
            remedy="set bootstrap to 0, or evaluate on more classes",
        )
    total_MR = _resampled(torch.cat([sum_MC, count_C[None].double()]), resamples, seed)
    mean_MR = total_MR[:-1] / total_MR[-1]
    tail = (1 - confidence) / 2
    bound_2M = torch.quantile(mean_MR, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=1)
    return {name: Interval(float(bound_2M[0, m]), float(bound_2M[1, m])) for m, name in enumerate(names)}


def _resampled(value_MC: Tensor, resamples: int, seed: int) -> Tensor:
    """Sums of the columns drawn with replacement, C draws each: (M, resamples)."""
    generator = torch.Generator().manual_seed(seed)
    classes = value_MC.shape[1]
    out_MR = torch.empty(len(value_MC), resamples, dtype=torch.float64)
    rows = max(1, _CELLS // classes)
    for start in range(0, resamples, rows):
        number = min(rows, resamples - start)
        draw_RC = torch.randint(classes, (number, classes), generator=generator)
        draw_RC += torch.arange(number)[:, None] * classes
        times_RC = torch.bincount(draw_RC.view(-1), minlength=number * classes).view(number, classes)
        out_MR[:, start : start + number] = value_MC @ times_RC.double().T
    return out_MR


def _sums(class_Q: Tensor, value_MQ: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(class_C, count_C, sum_MC) over queries whose values are not NaN; on the CPU."""
    value = torch.stack([value_Q.cpu() for value_Q in value_MQ])
    valid_Q = ~value[0].isnan()
    class_C, inverse_Q, count_C = class_Q.cpu()[valid_Q].unique(return_inverse=True, return_counts=True)
    sum_MC = torch.zeros(len(value), len(class_C), dtype=torch.float64)
    for m, row_Q in enumerate(value):
        sum_MC[m] = torch.bincount(inverse_Q, weights=row_Q[valid_Q], minlength=len(class_C))
    return class_C, count_C, sum_MC
