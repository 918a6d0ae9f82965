"""Several labels per image: average precision by ranking, precision and recall at thresholds, whole sets.

Targets are 1 (the label applies), 0 (it does not) and -1 (nobody knows); what nobody knows counts nowhere.
Shapes: N images, C labels, M known entries.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.metrics.classification import precision_recall_f1, refuse_nan

UNKNOWN = -1
THRESHOLD = 0.5  # where none has been chosen


@dataclass(frozen=True)
class MultilabelResult:
    """Made by `multilabel_metrics`, which says what the names mean.

    means: map, micro_map, weighted_map, cp, cr, cf1, op, or, of1, macro_f1, exact_match, coverage_error.
    per_label: ap, precision, recall, f1: float64 (C,), NaN where a label has no positive (f1, precision: nor is
    predicted). positives_C, known_C: int64. num_labels: labels that have a positive, over which macro means are taken.
    """

    means: dict[str, float]
    per_label: dict[str, Tensor]
    positives_C: Tensor
    known_C: Tensor

    @property
    def num_labels(self) -> int:
        return int((self.positives_C > 0).sum())


def multilabel_metrics(
    score_NC: Tensor | np.ndarray,
    target_NC: Tensor | np.ndarray,
    threshold_C: Tensor | np.ndarray | float | None = None,
) -> MultilabelResult:
    """How well probabilities tell the labels of each image.

    score_NC: probabilities; target_NC: 1, 0, or -1 for unknown. threshold_C: a label is predicted at or above it
    (default 0.5; above 1: never).

    By ranking (any monotone score would do): ap of a label is scikit-learn's `average_precision_score`, equal scores
    sharing one threshold. map: mean of ap over the labels that have a positive; weighted_map: weighted by their
    positives; micro_map: ap of all known entries as one label. coverage_error: how far down the ranking one must go to
    meet all labels of an image, averaged (Tsoumakas 2010; an image without labels counts as 0, as in scikit-learn).
    At the thresholds: cp, cr: mean precision and recall over the labels that have a positive, one never predicted
    having precision 0; cf1: their harmonic mean (Wang 2016), macro_f1: the mean of the labels' own f1, which is
    scikit-learn's macro average. op, or, of1: of all entries together. exact_match: share of images with every known
    label right. What nothing can be said of, as where nothing is positive, is NaN.
    Raises DataError: no image, no known entry, NaN scores; SpecError: shapes and targets that are none.
    """
    score_NC, target_NC = checked(score_NC, target_NC)
    limit_C = _limits(threshold_C, score_NC)
    known_NC, positive_NC = target_NC >= 0, target_NC == 1
    predicted_NC = (score_NC >= limit_C) & known_NC
    positives_C, known_C = positive_NC.sum(0), known_NC.sum(0)
    per_label = {"ap": torch.tensor([average_precision_of(*column) for column in columns(score_NC, target_NC)])}
    per_label["ap"] = per_label["ap"].double()
    right_C, predicted_C = (predicted_NC & positive_NC).sum(0), predicted_NC.sum(0)
    per_label |= precision_recall_f1(right_C, predicted_C, positives_C)
    means = _ranked(per_label["ap"], positives_C, score_NC[known_NC], positive_NC[known_NC])
    means |= _at_thresholds(per_label, positives_C, right_C, predicted_C)
    seen_N = known_NC.any(1)
    wrong_N = ((predicted_NC != positive_NC) & known_NC).any(1)
    means["exact_match"] = float((~wrong_N[seen_N]).double().mean())
    means["coverage_error"] = float(_coverage(score_NC, known_NC, positive_NC)[seen_N].double().mean())
    return MultilabelResult(means, per_label, positives_C, known_C)


def average_precision_of(score_M: Tensor, positive_M: Tensor) -> float:
    """Sum over the distinct scores, highest first, of precision times the recall gained; NaN without a positive."""
    _, hits_T, count_T = counts_by_threshold(score_M, positive_M)
    if not len(hits_T) or not int(hits_T[-1]):
        return float("nan")
    precision_T = hits_T.double() / count_T.double()
    gained_T = hits_T.diff(prepend=hits_T.new_zeros(1)).double() / float(hits_T[-1])
    return float((precision_T * gained_T).sum())


def counts_by_threshold(score_M: Tensor, positive_M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At each distinct score, highest first: the score, positives at or above it, entries at or above it."""
    ordered_M, order_M = score_M.sort(descending=True, stable=True)
    last_M = torch.ones(len(score_M), dtype=torch.bool)
    last_M[:-1] = ordered_M[1:] != ordered_M[:-1]
    place_T = last_M.nonzero().squeeze(1)
    return ordered_M[place_T], positive_M[order_M].long().cumsum(0)[place_T], place_T + 1


def columns(score_NC: Tensor, target_NC: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For every label its known entries: scores, and whether they are positive."""
    for score_N, target_N in zip(score_NC.T, target_NC.T, strict=True):
        known_N = target_N >= 0
        yield score_N[known_N], target_N[known_N] == 1


def checked(score_NC: Tensor | np.ndarray, target_NC: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Both on the CPU, targets int8. Raises as `multilabel_metrics`."""
    score_NC, target_NC = torch.as_tensor(score_NC).cpu(), torch.as_tensor(target_NC).cpu()
    if score_NC.ndim != 2 or target_NC.shape != score_NC.shape:
        raise SpecError(
            "metrics.shape",
            f"scores of {tuple(score_NC.shape)} and targets of {tuple(target_NC.shape)}: expected (N, C) twice",
        )
    if not bool(((target_NC == 1) | (target_NC == 0) | (target_NC == UNKNOWN)).all()):
        raise SpecError("metrics.target", "targets must be 1, 0, or -1 for unknown")
    if not len(score_NC):
        raise DataError("metrics.no-images", "there is no image to measure on")
    if not bool((target_NC >= 0).any()):
        raise DataError("metrics.all-unknown", "no label of any image is known: there is nothing to measure on")
    refuse_nan(score_NC)
    return score_NC, target_NC.to(torch.int8)


def _limits(threshold_C: Tensor | np.ndarray | float | None, score_NC: Tensor) -> Tensor:
    classes = score_NC.shape[1]
    limit_C = torch.as_tensor(THRESHOLD if threshold_C is None else threshold_C).cpu()
    if limit_C.ndim and limit_C.shape != (classes,):
        raise SpecError("metrics.shape", f"{len(limit_C)} thresholds for {classes} labels", field="threshold_C")
    # A threshold is compared in the scores' own precision: 0.7 and float32(0.7) are meant to be the same.
    return limit_C.to(score_NC.dtype).expand(classes)


def _ranked(ap_C: Tensor, positives_C: Tensor, score_M: Tensor, positive_M: Tensor) -> dict[str, float]:
    weight_C = positives_C.double()
    weighted = float((ap_C.nan_to_num() * weight_C).sum() / weight_C.sum())
    return {
        "map": float(ap_C.nanmean()),
        "micro_map": average_precision_of(score_M, positive_M),
        "weighted_map": weighted,
    }


def _at_thresholds(
    per_label: dict[str, Tensor], positives_C: Tensor, right_C: Tensor, predicted_C: Tensor
) -> dict[str, float]:
    there_C = positives_C > 0
    cp, cr, macro_f1 = (float(per_label[name][there_C].mean()) for name in ("precision", "recall", "f1"))
    total = precision_recall_f1(*(count_C.sum()[None] for count_C in (right_C, predicted_C, positives_C)))
    op, recall, of1 = (float(total[name]) for name in ("precision", "recall", "f1"))
    cf1 = 2 * cp * cr / (cp + cr) if cp + cr else cp + cr
    return {"cp": cp, "cr": cr, "cf1": cf1, "op": op, "or": recall, "of1": of1, "macro_f1": macro_f1}


def _coverage(score_NC: Tensor, known_NC: Tensor, positive_NC: Tensor) -> Tensor:
    """int64 (N,): known labels that score at least as high as the image's lowest positive; 0 without a positive."""
    lowest_N1 = score_NC.masked_fill(~positive_NC, torch.inf).amin(1, keepdim=True)
    return ((score_NC >= lowest_N1) & known_NC & positive_NC.any(1, keepdim=True)).sum(1)
