"""Probabilities that mean what they say: one temperature for all logits, and the diagram that shows whether it helped.

Guo et al. 2017, "On calibration of modern neural networks". Shapes: N images, C classes or labels, K bins, M entries.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinsight.errors import DataError, SpecError
from kinsight.metrics.blocks import all_finite, row_blocks

BOUNDS = (0.01, 100.0)  # temperatures looked at
_STEPS = 100
_CLOSE = 1e-9


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by `temperature`.

    nll_before, nll_after: mean negative log-likelihood in nats, of an image (one class) or of an entry (several
    labels), at temperature 1 and at this one. at_bound: the best one may lie beyond.
    """

    temperature: float
    nll_before: float
    nll_after: float
    at_bound: bool


@dataclass(frozen=True)
class Reliability:
    """Made by `reliability`.

    edge_K1: float64 (K+1,); count_K: int64; confidence_K, accuracy_K: means, float64, NaN where empty.
    ece: expected calibration error, the bins' gaps weighted by their entries.
    """

    edge_K1: Tensor
    count_K: Tensor
    confidence_K: Tensor
    accuracy_K: Tensor
    ece: float


def probabilities(logit_NC: Tensor, *, several: bool, temperature: float | None = None) -> Tensor:
    """float32 (N, C): softmax (one class), or sigmoid of each (several labels), of logits over the temperature."""
    scaled_NC = logit_NC.float() / (temperature or 1.0)
    return scaled_NC.sigmoid_() if several else scaled_NC.softmax(1)


def fit_temperature(logit_NC: Tensor | np.ndarray, target: Tensor | np.ndarray) -> Temperature:
    """The temperature that makes held-out targets likeliest.

    target: labels, int (N,), for one class per image; or 1, 0, -1 (unknown), (N, C), for several. The likelihood is
    convex in 1/temperature. As if one further image (entry) had every class equally (both values), the targets are
    slightly soft (Platt 1999): a model that makes no mistake would otherwise ask for temperature 0.
    Raises DataError: no image, nothing known, logits that are not finite; SpecError: shapes.
    """
    logit_NC, target = torch.as_tensor(logit_NC).cpu(), torch.as_tensor(target).cpu()
    if logit_NC.ndim != 2 or target.shape not in (logit_NC.shape, logit_NC.shape[:1]):
        raise SpecError("metrics.shape", f"logits of {tuple(logit_NC.shape)} and targets of {tuple(target.shape)}")
    if not all_finite(logit_NC):
        raise DataError("metrics.logits", "the logits are not all finite")
    if target.ndim == 1 and bool(((target < 0) | (target >= logit_NC.shape[1])).any()):
        raise DataError("metrics.label", f"a label is no class: the logits know 0 to {logit_NC.shape[1] - 1}")
    count = _known(target)
    if not count:
        raise DataError("metrics.all-unknown", "no target is known: there is nothing to calibrate on")
    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    inverse = _root(logit_NC, target, low, high)
    before, after = (_terms(logit_NC, target, value)[0] / count for value in (1.0, inverse))
    return Temperature(1 / inverse, before, after, inverse in (low, high))


def _known(target: Tensor) -> int:
    return sum(int((target_B >= 0).sum()) for (target_B,) in row_blocks(target))


def reliability(confidence_M: Tensor | np.ndarray, right_M: Tensor | np.ndarray, bins: int = 15) -> Reliability:
    """How often what is said with each confidence is so, in bins of equal width (the upper edge belongs to the next).

    For one class per image: the highest probability, and whether its class is the true one. For several labels: the
    probabilities of all entries, and whether the label applies: 1, 0, or -1 for unknown, which counts nowhere.
    Both of one shape, any.
    """
    confidence_M, right_M = torch.as_tensor(confidence_M).cpu(), torch.as_tensor(right_M).cpu()
    edge_K1 = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    total_3K = torch.zeros(3, bins, dtype=torch.float64)
    for confidence_B, right_B in row_blocks(confidence_M, right_M):
        known_B = right_B >= 0
        confidence_B, right_B = confidence_B[known_B].double(), right_B[known_B].double()
        bin_B = (torch.bucketize(confidence_B, edge_K1, right=True) - 1).clamp(0, bins - 1)
        for place, value_B in enumerate((torch.ones_like(right_B), confidence_B, right_B)):
            total_3K[place] += torch.bincount(bin_B, weights=value_B, minlength=bins)
    count_K = total_3K[0].long()
    confidence_K, accuracy_K = total_3K[1:] / count_K
    gap_K = (confidence_K - accuracy_K).abs().nan_to_num() * count_K
    ece = float(gap_K.sum() / max(1, int(count_K.sum())))
    return Reliability(edge_K1, count_K, confidence_K, accuracy_K, ece)


def _root(logit_NC: Tensor, target: Tensor, low: float, high: float) -> float:
    """Where the slope of the likelihood is 0: Newton's steps, halving wherever they leave what is left."""
    if _terms(logit_NC, target, low)[1] >= 0:
        return low
    if _terms(logit_NC, target, high)[1] <= 0:
        return high
    left, right, here = low, high, 1.0
    for _ in range(_STEPS):
        _, slope, bend = _terms(logit_NC, target, here)
        left, right = (left, here) if slope > 0 else (here, right)
        there = here - slope / bend if bend > 0 else here
        if not left < there < right:
            there = (left * right) ** 0.5
        if abs(there - here) <= _CLOSE * here:
            return there
        here = there
    return here


def _terms(logit_NC: Tensor, target: Tensor, inverse: float) -> tuple[float, float, float]:
    """Negative log-likelihood of softened targets, its first and second derivative in 1/temperature; sums."""
    total = torch.zeros(3, dtype=torch.float64)
    terms = _of_classes if target.ndim == 1 else _of_labels
    soft = 1 / (_known(target) + 2)
    for logit_BC, target_B in row_blocks(logit_NC, target):
        total += terms(logit_BC.double(), target_B, inverse, soft)
    return float(total[0]), float(total[1]), float(total[2])


def _of_classes(logit_BC: Tensor, label_B: Tensor, inverse: float, soft: float) -> Tensor:
    logit_BC = logit_BC - logit_BC.mean(1, keepdim=True)  # a shift changes nothing; the mean is then the soft part's 0
    own_B = (1 - soft) * logit_BC.gather(1, label_B.long()[:, None]).squeeze(1)
    log_BC = (logit_BC * inverse).log_softmax(1)
    probability_BC = log_BC.exp()
    mean_B = (probability_BC * logit_BC).sum(1)
    variance_B = (probability_BC * (logit_BC - mean_B[:, None]).square()).sum(1)
    nll = (logit_BC * inverse).logsumexp(1) - own_B * inverse
    return torch.stack([nll.sum(), (mean_B - own_B).sum(), variance_B.sum()])


def _of_labels(logit_BC: Tensor, target_BC: Tensor, inverse: float, soft: float) -> Tensor:
    known_BC = target_BC >= 0
    logit_M = logit_BC[known_BC]
    wanted_M = target_BC[known_BC].double() * (1 - 2 * soft) + soft
    nll_M = F.binary_cross_entropy_with_logits(logit_M * inverse, wanted_M, reduction="none")
    probability_M = (logit_M * inverse).sigmoid()
    slope_M = logit_M * (probability_M - wanted_M)
    bend_M = logit_M.square() * probability_M * (1 - probability_M)
    return torch.stack([nll_M.sum(), slope_M.sum(), bend_M.sum()])
