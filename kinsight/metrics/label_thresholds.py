"""From which probability on is a label predicted? A threshold of its own for every label that the data supports."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.metrics.label_ranking import Entries, at_thresholds
from kinsight.metrics.labels import checked, columns, known_entries

LEAST_POSITIVES = 5  # of a label; with fewer, its best threshold is that of a few images
NEVER = 2.0  # above every probability


@dataclass(frozen=True)
class LabelThresholds:
    """threshold_C: float64; a label is predicted at or above it, `NEVER` where nothing reaches the wished precision.

    shared: the threshold best for all labels together, taken by the labels in `few`, which have too few positives for
    one of their own. unreachable: labels that no threshold gives the wished precision. kept: labels of which nothing is
    known, whose threshold is what it was before.
    """

    threshold_C: Tensor
    shared: float
    few: tuple[int, ...]
    unreachable: tuple[int, ...]
    kept: tuple[int, ...] = ()

    def differs_from(self, threshold_C: Tensor) -> bool:
        """Whether other labels would be predicted by these thresholds, but for chance."""
        return not torch.allclose(self.threshold_C, threshold_C, atol=1e-4)


def choose_thresholds(
    score_NC: Tensor | np.ndarray,
    target_NC: Tensor | np.ndarray,
    *,
    precision: float | None = None,
    least_positives: int = LEAST_POSITIVES,
    own_C: Tensor | None = None,
) -> LabelThresholds:
    """Thresholds by F1, or with `precision` the lowest (largest recall) at which at least it is measured.

    score_NC: probabilities; target_NC: 1, 0, or -1 for unknown. A threshold lies midway between two scores that occur,
    so that it does not hang on either; of equally good ones the highest is taken. own_C: thresholds kept by labels of
    which nothing is known; without, they take the shared one. What is measured on the same data at these thresholds is
    better than it will be elsewhere. Raises as `multilabel_metrics`; SpecError: no such precision.
    """
    if precision is not None and not 0 < precision <= 1:
        raise SpecError("metrics.precision", f"precision={precision}: must be above 0 and at most 1", field="precision")
    score_NC, target_NC = checked(score_NC, target_NC)
    shared = _choose(lambda: known_entries(score_NC, target_NC), precision)
    found: list[float] = []
    few, unreachable, kept = [], [], []
    for label, (score_N, target_N) in enumerate(columns(score_NC, target_NC)):
        known_N = target_N >= 0
        if own_C is not None and not bool(known_N.any()):
            kept.append(label)
            found.append(float(own_C[label]))
            continue
        entries = (score_N[known_N], target_N[known_N] == 1)
        if int(entries[1].sum()) < least_positives:
            few.append(label)
            own = shared
        else:
            own = _choose(lambda entries=entries: [entries], precision)
        if own is None:
            unreachable.append(label)
        found.append(NEVER if own is None else own)
    threshold_C = torch.tensor(found, dtype=torch.float64)
    return LabelThresholds(
        threshold_C, NEVER if shared is None else shared, tuple(few), tuple(unreachable), tuple(kept)
    )


def _choose(entries: Entries, precision: float | None) -> float | None:
    """The threshold for one set of entries; None where nothing is positive or the precision is not reached.

    It lies at the score of a positive: from there down to the next one's, wrong predictions alone are added.
    """
    counts = at_thresholds(entries)
    if not len(counts.score_T):
        return None
    hits_T, count_T = counts.hits_T.double(), counts.count_T.double()
    if precision is None:
        f1_T = 2 * hits_T / (count_T + hits_T[0])
        best = int((f1_T == f1_T.max()).nonzero()[-1])
    else:
        enough_T = hits_T / count_T >= precision
        if not bool(enough_T.any()):
            return None
        best = int(enough_T.nonzero()[0])
    chosen = float(counts.score_T[best])
    below = max(_highest_below(score_M, counts.score_T[best]) for score_M, _ in entries())
    below = below if below > -np.inf else 0.0
    middle = (chosen + min(below, chosen)) / 2
    # In the precision that probabilities are compared in, midway may fall on the lower one.
    return middle if np.float32(middle) > np.float32(below) else chosen


def _highest_below(score_M: Tensor, limit: Tensor) -> float:
    """-inf where there is none."""
    below_M = score_M[score_M < limit]
    return float(below_M.max()) if len(below_M) else -np.inf
