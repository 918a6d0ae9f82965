"""How surely verification is measured: intervals, over classes, of the area under the curve and equal error rate."""

import torch
from torch import Tensor

from kinsight.metrics.classes import LEAST_CLASSES, Interval
from kinsight.metrics.pairs import DrawnPairs
from kinsight.metrics.verification import Roc, auc, eer

_PAIRS = 300_000  # of each sort that are resampled; what they leave out weighs little beside the choice of classes
_STEPS = 2**14  # of the curve; where there are more similarities, neighbours share one


def pair_intervals(
    pairs: DrawnPairs, label_N: Tensor, *, confidence: float = 0.95, resamples: int = 200, seed: int = 0
) -> dict[str, Interval]:
    """Percentile intervals of `auc` and `eer`, resampling classes as `decision_thresholds` does (Owen 2007).

    label_N: int64, of the items that `pairs` number. Empty below LEAST_CLASSES classes, and where most resamples hold
    no pair of a sort.
    """
    class_N = label_N.cpu().unique(return_inverse=True)[1]
    classes = int(class_N.max()) + 1
    if classes < LEAST_CLASSES:
        return {}
    generator = torch.Generator().manual_seed(seed)
    same_P, same_P2 = _some(pairs.same_P, pairs.same_index_P2, generator)
    different_P, different_P2 = _some(pairs.different_P, pairs.different_index_P2, generator)
    edge_T = _edges(torch.cat([same_P, different_P]))
    same_class_P, step_S = class_N[same_P2[:, 0]], torch.bucketize(same_P, edge_T)
    (low_P, high_P), step_D = class_N[different_P2].unbind(1), torch.bucketize(different_P, edge_T)
    found = []
    for _ in range(resamples):
        drawn = torch.randint(classes, (classes,), generator=generator)
        weight_C = torch.bincount(drawn, minlength=classes).double()
        true_T = _share(step_S, weight_C[same_class_P], len(edge_T) + 1)
        false_T = _share(step_D, weight_C[low_P] * weight_C[high_P], len(edge_T) + 1)
        if bool(true_T[-1] > 0) and bool(false_T[-1] > 0):
            curve = Roc(edge_T, true_T, false_T, len(same_P), len(different_P))
            found.append((auc(curve), eer(curve)))
    if 2 * len(found) < resamples:
        return {}
    tail = (1 - confidence) / 2
    bound_22 = torch.quantile(torch.tensor(found), torch.tensor([tail, 1 - tail]), dim=0).tolist()
    return {name: Interval(bound_22[0][at], bound_22[1][at]) for at, name in enumerate(("auc", "eer"))}


def _some(value_P: Tensor, index_P2: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    value_P, index_P2 = value_P.cpu(), index_P2.cpu()
    if len(value_P) <= _PAIRS:
        return value_P, index_P2
    chosen = torch.randperm(len(value_P), generator=generator)[:_PAIRS]
    return value_P[chosen], index_P2[chosen]


def _edges(value_P: Tensor) -> Tensor:
    """Similarities, ascending, that part the pairs into steps of equally many; all of them where they are few."""
    value_T = value_P.unique()
    if len(value_T) <= _STEPS:
        return value_T
    ordered_P = value_P.sort().values
    return ordered_P[torch.linspace(0, len(value_P) - 1, _STEPS).long()].unique()


def _share(step_P: Tensor, weight_P: Tensor, steps: int) -> Tensor:
    """Share of the weight from the highest step down to each: float64 (steps + 1), from 0 to 1; 0s without weight."""
    sum_T = torch.zeros(steps + 1, dtype=torch.float64)
    torch.cumsum(torch.bincount(step_P, weight_P, steps).flip(0), 0, out=sum_T[1:])
    return sum_T / sum_T[-1] if float(sum_T[-1]) > 0 else sum_T
