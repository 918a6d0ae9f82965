"""Verification: are two items the same? From similarities of pairs known to be same or different.

A pair is accepted when its similarity is at least the threshold. FPR (also FMR): share of different pairs accepted;
TPR: share of same pairs accepted; FNMR = 1 - TPR.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError


@dataclass(frozen=True)
class Roc:
    """threshold_T: float64, descending, first +inf (nothing accepted); tpr_T, fpr_T: float64, rising from 0 to 1."""

    threshold_T: Tensor
    tpr_T: Tensor
    fpr_T: Tensor
    num_same: int
    num_different: int


@dataclass(frozen=True)
class OperatingPoint:
    """TPR and threshold at a fixed FPR; both None, with the reason, where the pairs cannot tell."""

    tpr: float | None
    threshold: float | None
    reason: str | None = None

    @property
    def fnmr(self) -> float | None:
        return None if self.tpr is None else 1.0 - self.tpr


@dataclass(frozen=True)
class FoldAccuracy:
    """Mean, standard deviation over folds (n - 1), and each fold's accuracy and threshold."""

    mean: float
    std: float
    accuracy: tuple[float, ...]
    threshold: tuple[float, ...]


@dataclass(frozen=True)
class VerificationResult:
    """means: flat names -> value, None where unsupported; reasons: why, by name; thresholds: by name."""

    means: dict[str, float | None]
    reasons: dict[str, str]
    thresholds: dict[str, float]
    roc: Roc


def roc(same_P: Tensor, different_P: Tensor) -> Roc:
    """The exact curve, one point per distinct similarity. Raises DataError: an empty side, NaN."""
    same_P, different_P = _checked(same_P, "same"), _checked(different_P, "different")
    value_P = torch.cat([same_P, different_P])
    is_same_P = torch.zeros(len(value_P), dtype=torch.int64, device=value_P.device)
    is_same_P[: len(same_P)] = 1
    value_P, order_P = value_P.sort(descending=True, stable=True)
    accepted_P = is_same_P[order_P].cumsum(0)
    last_P = torch.ones(len(value_P), dtype=torch.bool, device=value_P.device)
    last_P[:-1] = value_P[1:] != value_P[:-1]
    true_T = accepted_P[last_P]
    false_T = last_P.nonzero().squeeze(1) + 1 - true_T
    start = torch.zeros(1, dtype=torch.float64, device=value_P.device)
    return Roc(
        torch.cat([start + float("inf"), value_P[last_P]]),
        torch.cat([start, true_T.double() / len(same_P)]),
        torch.cat([start, false_T.double() / len(different_P)]),
        len(same_P),
        len(different_P),
    )


def auc(curve: Roc) -> float:
    """Area under the curve: probability that a same pair scores above a different one, ties counting half."""
    return float(torch.trapezoid(curve.tpr_T, curve.fpr_T))


def eer(curve: Roc) -> float:
    """Equal error rate: where FPR meets FNMR, linear between the curve's points."""
    gap_T = curve.fpr_T - (1.0 - curve.tpr_T)  # rises from -1 to 1
    right = int((gap_T >= 0).int().argmax())
    left = right - 1
    share = -gap_T[left] / (gap_T[right] - gap_T[left])
    return float(curve.fpr_T[left] + share * (curve.fpr_T[right] - curve.fpr_T[left]))


def tpr_at_fpr(curve: Roc, fpr: float) -> OperatingPoint:
    """Highest TPR at an FPR of at most `fpr`, no interpolation; None below 1 / number of different pairs."""
    if fpr * curve.num_different < 1:
        return OperatingPoint(
            None, None, f"fpr {fpr:g} is finer than {curve.num_different} different pairs can show (1 accepted at most)"
        )
    # the last point whose FPR does not exceed the limit; counts, so that 0.001 * 1000 allows exactly one
    allowed = int(fpr * curve.num_different * (1 + 1e-12))
    accepted_T = (curve.fpr_T * curve.num_different).round()
    place = int((accepted_T <= allowed).sum()) - 1
    threshold = float(curve.threshold_T[place])
    if place == 0:
        return OperatingPoint(0.0, None, f"no threshold accepts anything at fpr {fpr:g}: the highest scores are tied")
    return OperatingPoint(float(curve.tpr_T[place]), threshold)


def best_threshold(same_P: Tensor, different_P: Tensor) -> tuple[float, float]:
    """(threshold, accuracy) with the most pairs right; halfway between neighbouring scores; lowest of equals."""
    same_P, different_P = _checked(same_P, "same"), _checked(different_P, "different")
    value_P = torch.cat([same_P, different_P])
    is_same_P = torch.zeros(len(value_P), dtype=torch.bool, device=value_P.device)
    is_same_P[: len(same_P)] = True
    return _best_threshold(value_P, is_same_P)


def fold_accuracy(
    similarity_P: Tensor, is_same_P: Tensor, *, folds: int = 10, fold_P: Tensor | None = None, seed: int = 0
) -> FoldAccuracy:
    """Accuracy on each fold with the threshold that was best on the others (Huang et al. 2007, the LFW protocol).

    fold_P: int64 (P,), the fold of each pair where a protocol prescribes it; otherwise pairs are dealt by seed, same
    and different ones evenly. Raises DataError where a fold or its complement would be empty.
    """
    similarity_P, is_same_P = _checked(similarity_P, "pair"), is_same_P.bool()
    if fold_P is None:
        fold_P = _deal(is_same_P, folds, seed)
    accuracy, threshold = [], []
    for fold in fold_P.unique().tolist():
        test_P = fold_P == fold
        if bool(test_P.all()):
            raise DataError("metrics.folds", "all pairs are in one fold", remedy="give at least two folds")
        limit, _ = _best_threshold(similarity_P[~test_P], is_same_P[~test_P])
        right_T = (similarity_P[test_P] >= limit) == is_same_P[test_P]
        accuracy.append(float(right_T.double().mean()))
        threshold.append(limit)
    value = torch.tensor(accuracy, dtype=torch.float64)
    std = float(value.std()) if len(value) > 1 else 0.0
    return FoldAccuracy(float(value.mean()), std, tuple(accuracy), tuple(threshold))


def verification_metrics(
    same_P: Tensor,
    different_P: Tensor,
    *,
    fprs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
    folds: int = 10,
    seed: int = 0,
) -> VerificationResult:
    """`auc`, `eer`, `tpr@fpr=1e-3`, `fnmr@fmr=1e-3`, `accuracy@10fold`, `best_accuracy` and their thresholds.

    A rate finer than the pairs can show is None, with the reason, never a guess.
    """
    curve = roc(same_P, different_P)
    threshold, accuracy = best_threshold(same_P, different_P)
    means: dict[str, float | None] = {"auc": auc(curve), "eer": eer(curve), "best_accuracy": accuracy}
    thresholds, reasons = {"best_accuracy": threshold}, {}
    for fpr in fprs:
        point, rate = tpr_at_fpr(curve, fpr), rate_name(fpr)
        means[f"tpr@fpr={rate}"], means[f"fnmr@fmr={rate}"] = point.tpr, point.fnmr
        if point.threshold is not None:
            thresholds[f"tpr@fpr={rate}"] = point.threshold
        if point.reason is not None:
            reasons[f"tpr@fpr={rate}"] = reasons[f"fnmr@fmr={rate}"] = point.reason
    name = f"accuracy@{folds}fold"
    if min(curve.num_same, curve.num_different) >= folds:
        similarity_P = torch.cat([same_P, different_P])
        is_same_P = torch.arange(len(similarity_P), device=similarity_P.device) < len(same_P)
        means[name] = fold_accuracy(similarity_P, is_same_P, folds=folds, seed=seed).mean
    else:
        means[name] = None
        reasons[name] = f"{folds} folds need {folds} pairs of each sort, got {curve.num_same}, {curve.num_different}"
    return VerificationResult(means, reasons, thresholds, curve)


def rate_name(rate: float) -> str:
    """0.001 -> "1e-3", 0.05 -> "5e-2"."""
    mantissa, _, exponent = f"{rate:e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _best_threshold(value_P: Tensor, is_same_P: Tensor) -> tuple[float, float]:
    value_P, order_P = value_P.sort()
    same_P = is_same_P[order_P].long()
    # cut c rejects the c lowest: right are the different ones among them and the same ones above
    right_C = torch.zeros(len(value_P) + 1, dtype=torch.int64, device=value_P.device)
    torch.cumsum(1 - 2 * same_P, 0, out=right_C[1:])
    right_C += same_P.sum()
    possible_C = torch.ones_like(right_C, dtype=torch.bool)
    possible_C[1:-1] = value_P[1:] != value_P[:-1]
    cut = int(torch.where(possible_C, right_C, -1).argmax())
    if cut == 0:
        threshold = float(value_P[0])
    elif cut == len(value_P):
        threshold = float(torch.nextafter(value_P[-1], value_P.new_tensor(float("inf"))))
    else:
        # rounding must not put the middle of two neighbouring floats on the lower one
        threshold = max(float((value_P[cut - 1] + value_P[cut]) / 2), float(value_P[cut - 1].nextafter(value_P[cut])))
    return threshold, int(right_C[cut]) / len(value_P)


def _deal(is_same_P: Tensor, folds: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    fold_P = torch.empty(len(is_same_P), dtype=torch.int64, device=is_same_P.device)
    for side in (True, False):
        index = (is_same_P == side).nonzero().squeeze(1)
        shuffled = torch.randperm(len(index), generator=generator).to(index.device)
        fold_P[index[shuffled]] = torch.arange(len(index), device=index.device) % folds
    return fold_P


def _checked(value_P: Tensor, name: str) -> Tensor:
    value_P = torch.as_tensor(value_P).double()
    if value_P.ndim != 1 or len(value_P) == 0 or bool(value_P.isnan().any()):
        raise DataError(
            "metrics.pairs",
            f"{name} pairs: expected a non-empty row of similarities without NaN, got shape {tuple(value_P.shape)}",
            remedy="verification needs at least one pair of each sort",
        )
    return value_P
