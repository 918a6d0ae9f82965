"""Decision thresholds: from which similarity on are two items taken for the same, at which error rates?

Errors are rates over pairs, but pairs share items and items share classes, so that counting pairs would make the bounds
far too narrow. Classes are resampled instead, both ends of a pair with their own weight (Owen 2007, "The pigeonhole
bootstrap", Annals of Applied Statistics 1).

A low rate rests on the few pairs of classes that look alike, and a sample may hold none of the worst ones. So the
bounds of a false-match rate are symmetric on its logarithm, by the resamples' deviation and Student's t for as many
classes as the accepted pairs come from in effect; and a rate is measured only where PAIRS_OF_CLASSES are to be expected
in it. Looking only at the accepted pairs would not do: samples without alike classes are just those that seem good.

How often 95 % bounds held the rate among all classes when few were drawn, where a rate was given (200 draws of 8 images
a class; embeddings of 600 unseen characters, and synthetic families of alike classes):

    classes   1e-1           1e-2            1e-3
    10        99.5 %, 100 %  100 %, 98.8 %   not given
    12        99 %, 100 %    99.3 %, 99.3 %  not given
    29        100 %, 100 %   100 %, 100 %    100 %, 99.3 %

With 14 images a class, 30 classes of such families: 92 % at 1e-3 (24 draws with a rate given).

Percentiles with no such rule held 12 classes at 1e-3 in 68 % of the draws, 30 classes at 1e-4 in 74 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from kinsight.metrics.classes import LEAST_CLASSES
from kinsight.metrics.pairs import DrawnPairs
from kinsight.metrics.verification import rate_name, roc, tpr_at_fpr

LEAST_ACCEPTED = 10  # different pairs at or above a threshold; with fewer the rate is a guess
PAIRS_OF_CLASSES = 0.4  # rate times pairs of classes: as many would be accepted, were each accepted as a whole
LEAST_SPREAD = 4.0  # classes that the accepted pairs come from, weighted by their share


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

    label_N: int64, of the items that `pairs` number. Bounds come from `resamples` draws of the classes: percentiles for
    the true-match rate, see above for the false-match rate.
    """
    class_N = label_N.cpu().unique(return_inverse=True)[1]
    curve = roc(pairs.same_P, pairs.different_P)
    points, reasons = [], {}
    for fmr in sorted(fmrs, reverse=True):
        point = tpr_at_fpr(curve, fmr)
        if reason := _too_few(fmr, class_N, curve.num_different):
            reasons[rate_name(fmr)] = reason
        elif point.threshold is None or point.tpr is None:
            reasons[rate_name(fmr)] = point.reason or "no threshold reaches it"
        elif (spread := _spread(pairs, class_N, point.threshold)) < LEAST_SPREAD:
            reasons[rate_name(fmr)] = f"its pairs come from {spread:.1f} classes in effect; {LEAST_SPREAD:g} are needed"
        else:
            points.append((fmr, point.threshold, point.tpr, spread))
    if not points:
        return [], reasons
    fmr_RT, tmr_RT = _resampled(pairs, class_N, [limit for _, limit, _, _ in points], resamples, seed)
    edge = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    tmr_2T = torch.quantile(tmr_RT, edge, dim=0).tolist()
    found = []
    for place, (fmr, limit, tmr, spread) in enumerate(points):
        measured = float((pairs.different_P.double() >= limit).double().mean())
        sigmas = student_quantile((1 + confidence) / 2, spread - 1)
        factor = math.exp(sigmas * float(fmr_RT[:, place].std()) / measured)
        bounds = measured / factor, min(1.0, measured * factor)
        found.append(Threshold(fmr, limit, *bounds, tmr, tmr_2T[0][place], tmr_2T[1][place]))
    return found, reasons


def _too_few(fmr: float, class_N: Tensor, num_different: int) -> str:
    """Why a rate cannot be measured whatever the similarities are; empty where it can.

    Classes count as many as equally large ones would: one huge class beside small ones tells of few pairs of classes.
    """
    size_C = torch.bincount(class_N).double()
    equal = float(size_C.sum() ** 2 / (size_C**2).sum())
    # n (n - 1) / 2 pairs of classes
    needed = max(LEAST_CLASSES, math.ceil((1 + math.sqrt(1 + 8 * PAIRS_OF_CLASSES / fmr)) / 2))
    if equal < needed * (1 - 1e-9):
        uneven = f", as telling as {equal:.1f} of equal size" if round(equal) < len(size_C) else ""
        return f"{len(size_C)} classes{uneven}; bounds need {needed:,}"
    if fmr * num_different < LEAST_ACCEPTED:
        return f"{num_different:,} different pairs; {round(LEAST_ACCEPTED / fmr):,} are needed"
    return ""


def _spread(pairs: DrawnPairs, class_N: Tensor, limit: float) -> float:
    """From how many classes the different pairs at or above the limit come, were their shares equal; 0 without any."""
    taken = pairs.different_P.cpu().double() >= limit
    count_C = torch.bincount(class_N[pairs.different_index_P2.cpu()[taken]].flatten()).double()
    return float(count_C.sum() ** 2 / (count_C**2).sum().clamp_min(1))


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t by its expansion about the normal one (Abramowitz and Stegun 1964, 26.7.5).

    Within 0.2 % at 97.5 % from 3 degrees of freedom on.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


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
