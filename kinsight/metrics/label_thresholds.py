"""From which probability on is a label predicted? A threshold of its own for every label that the data supports."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.metrics.labels import checked, columns, counts_by_threshold

LEAST_POSITIVES = 5  # of a label; with fewer, its best threshold is that of a few images
NEVER = 2.0  # above every probability


@dataclass(frozen=True)
class LabelThresholds:
    """threshold_C: float64; a label is predicted at or above it, `NEVER` where nothing reaches the wished precision.

    shared: the threshold best for all labels together, taken by the labels in `few`, which have too few positives for
    one of their own. unreachable: labels that no threshold gives the wished precision.
    """

    threshold_C: Tensor
    shared: float
    few: tuple[int, ...]
    unreachable: tuple[int, ...]


def choose_thresholds(
    score_NC: Tensor | np.ndarray,
    target_NC: Tensor | np.ndarray,
    *,
    precision: float | None = None,
    least_positives: int = LEAST_POSITIVES,
) -> LabelThresholds:
    """Thresholds by F1, or with `precision` the lowest (largest recall) at which at least it is measured.

    score_NC: probabilities; target_NC: 1, 0, or -1 for unknown. A threshold lies midway between two scores that occur,
    so that it does not hang on either; of equally good ones the highest is taken. What is measured on the same data at
    these thresholds is better than it will be elsewhere. Raises as `multilabel_metrics`; SpecError: no such precision.
    """
    if precision is not None and not 0 < precision <= 1:
        raise SpecError("metrics.precision", f"precision={precision}: must be above 0 and at most 1", field="precision")
    score_NC, target_NC = checked(score_NC, target_NC)
    known_NC = target_NC >= 0
    shared = _choose(score_NC[known_NC], target_NC[known_NC] == 1, precision)
    found: list[float] = []
    few, unreachable = [], []
    for label, (score_M, positive_M) in enumerate(columns(score_NC, target_NC)):
        if int(positive_M.sum()) < least_positives:
            few.append(label)
            own = shared
        else:
            own = _choose(score_M, positive_M, precision)
        if own is None:
            unreachable.append(label)
        found.append(NEVER if own is None else own)
    threshold_C = torch.tensor(found, dtype=torch.float64)
    return LabelThresholds(threshold_C, NEVER if shared is None else shared, tuple(few), tuple(unreachable))


def _choose(score_M: Tensor, positive_M: Tensor, precision: float | None) -> float | None:
    """The threshold for one set of entries; None where nothing is positive or the precision is not reached."""
    score_T, hits_T, count_T = counts_by_threshold(score_M.double(), positive_M)
    if not len(score_T) or not int(hits_T[-1]):
        return None
    if precision is None:
        f1_T = 2 * hits_T.double() / (count_T + hits_T[-1]).double()
        best = int((f1_T == f1_T.max()).int().argmax())
    else:
        enough_T = (hits_T.double() / count_T.double() >= precision) & (hits_T > 0)
        if not bool(enough_T.any()):
            return None
        best_hits = hits_T[enough_T].max()
        best = int((enough_T & (hits_T == best_hits)).int().argmax())
    below = float(score_T[best + 1]) if best + 1 < len(score_T) else 0.0
    middle = (float(score_T[best]) + min(below, float(score_T[best]))) / 2
    # In the precision that probabilities are compared in, midway may fall on the lower one.
    return middle if np.float32(middle) > np.float32(below) else float(score_T[best])
