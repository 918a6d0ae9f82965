"""Decision thresholds: from which similarity on are two items taken for the same, at which error rates?

Errors are rates over pairs, but pairs share items and items share classes, so that counting pairs would make the bounds
far too narrow. Classes are resampled instead, both ends of a pair with their own weight (Owen 2007, "The pigeonhole
bootstrap", Annals of Applied Statistics 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.metrics.pairs import DrawnPairs
from kinsight.metrics.verification import rate_name, roc, tpr_at_fpr

LEAST_ACCEPTED = 10  # different pairs at or above a threshold; with fewer the rate is a guess
LEAST_CLASSES = 10


@dataclass(frozen=True)
class Threshold:
    """Pairs at or above `threshold` are taken for the same.

    fmr: the false-match rate asked for; at most it is measured. fmr_low, fmr_high: bounds of the rate at `threshold` on
    other classes. tmr, tmr_low, tmr_high: share of same pairs accepted.
    """

    fmr: float
    threshold: float
    fmr_low: float
    fmr_high: float
    tmr: float
    tmr_low: float
    tmr_high: float


def decision_thresholds(
    pairs: DrawnPairs,
    label_N: Tensor,
    *,
    fmrs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
    confidence: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[list[Threshold], dict[str, str]]:
    """Thresholds at false-match rates, loosest first, and for each rate that the data cannot support the reason.

    label_N: int64, of the items that `pairs` number. Bounds are percentiles over `resamples` draws of the classes.
    """
    class_N = label_N.cpu().unique(return_inverse=True)[1]
    classes = int(class_N.max()) + 1
    curve = roc(pairs.same_P, pairs.different_P)
    points, reasons = [], {}
    for fmr in sorted(fmrs, reverse=True):
        point, accepted = tpr_at_fpr(curve, fmr), fmr * curve.num_different
        if classes < LEAST_CLASSES:
            reasons[rate_name(fmr)] = f"{classes} classes; bounds need {LEAST_CLASSES}"
        elif accepted < LEAST_ACCEPTED:
            needed = round(LEAST_ACCEPTED / fmr)
            reasons[rate_name(fmr)] = f"{curve.num_different:,} different pairs; {needed:,} are needed"
        elif point.threshold is None or point.tpr is None:
            reasons[rate_name(fmr)] = point.reason or "no threshold reaches it"
        else:
            points.append((fmr, point.threshold, point.tpr))
    if not points:
        return [], reasons
    fmr_RT, tmr_RT = _resampled(pairs, class_N, [limit for _, limit, _ in points], resamples, seed)
    edge = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    fmr_2T, tmr_2T = torch.quantile(fmr_RT, edge, dim=0).tolist(), torch.quantile(tmr_RT, edge, dim=0).tolist()
    bounds = zip(fmr_2T[0], fmr_2T[1], tmr_2T[0], tmr_2T[1], strict=True)
    found = [
        Threshold(fmr, limit, fmr_low, fmr_high, tmr, tmr_low, tmr_high)
        for (fmr, limit, tmr), (fmr_low, fmr_high, tmr_low, tmr_high) in zip(points, bounds, strict=True)
    ]
    return found, reasons


def _resampled(
    pairs: DrawnPairs, class_N: Tensor, limits: Sequence[float], resamples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """FMR and TMR, float64 (resamples, limits), when classes are drawn with repetition."""
    classes = int(class_N.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    limit_T = torch.tensor(limits, dtype=torch.float64)
    low_P, high_P = class_N[pairs.different_index_P2.cpu()].int().unbind(1)
    same_class_P = class_N[pairs.same_index_P2[:, 0].cpu()]
    different_P, same_P = pairs.different_P.cpu().double(), pairs.same_P.cpu().double()
    taken = different_P >= limit_T.min()
    # accepted by how many limits, from the loosest on: a histogram per resample gives all rates at once
    step_A = (different_P[taken, None] >= limit_T).sum(1) - 1
    step_S = (same_P[:, None] >= limit_T).sum(1)
    low_A, high_A = low_P[taken].long(), high_P[taken].long()
    low_P, high_P = low_P.long(), high_P.long()
    fmr, tmr = [], []
    for _ in range(resamples):
        drawn = torch.randint(classes, (classes,), generator=generator)
        weight_C = torch.bincount(drawn, minlength=classes).float()
        total = (weight_C[low_P] * weight_C[high_P]).sum(dtype=torch.float64)
        accepted_T = torch.bincount(step_A, (weight_C[low_A] * weight_C[high_A]).double(), len(limits))
        same_T = torch.bincount(step_S, weight_C[same_class_P].double(), len(limits) + 1)
        fmr.append(accepted_T.flip(0).cumsum(0).flip(0) / total)
        tmr.append(same_T.flip(0).cumsum(0).flip(0)[1:] / same_T.sum())
    return torch.stack(fmr), torch.stack(tmr)
