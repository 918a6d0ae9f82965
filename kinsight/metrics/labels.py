"""Several labels per image: average precision by ranking, precision and recall at thresholds, whole sets.

Targets are 1 (the label applies), 0 (it does not) and -1 (nobody knows); what nobody knows counts nowhere.
Shapes: N images, C labels, M known entries.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.metrics.blocks import CELLS, row_blocks
from kinsight.metrics.classification import precision_recall_f1, refuse_nan
from kinsight.metrics.label_ranking import at_thresholds, average_precision_of, precision_slopes

UNKNOWN = -1
THRESHOLD = 0.5  # where none has been chosen


@dataclass(frozen=True)
class MultilabelResult:
    """Made by `multilabel_metrics`, which says what the names mean, and by `threshold_metrics`.

    means: map, micro_map, weighted_map, cp, cr, cf1, op, or, of1, macro_f1, exact_match, coverage_error.
    per_label: ap, precision, recall, f1: float64 (C,), NaN where a label has no positive (f1, precision: nor is
    predicted). positives_C, known_C: int64, images that show a label, and of which it is known whether they do.
    num_labels: labels that have a positive, over which macro means are taken. wrong_N, seen_N: bool, images of which
    something wrong is said, and of which anything is known.
    map_slope_N: float64, how fast `map` grows with the weight of an image, from which its interval can be told.
    """

    means: dict[str, float]
    per_label: dict[str, Tensor]
    positives_C: Tensor
    known_C: Tensor
    wrong_N: Tensor
    seen_N: Tensor
    map_slope_N: Tensor | None = None

    @property
    def num_labels(self) -> int:
        return int((self.positives_C > 0).sum())


def multilabel_metrics(
    score_NC: Tensor | np.ndarray,
    target_NC: Tensor | np.ndarray,
    threshold_C: Tensor | np.ndarray | float | None = None,
    *,
    micro: bool = True,
) -> MultilabelResult:
    """How well probabilities tell the labels of each image.

    score_NC: probabilities; target_NC: 1, 0, or -1 for unknown. threshold_C: a label is predicted at or above it
    (default 0.5; above 1: never). micro: whether micro_map is taken, the slowest of all.

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
    said = _said(score_NC, target_NC, _limits(threshold_C, score_NC))
    ap_C, slope_N = _ranked(score_NC, target_NC)
    found = _result(said, {"ap": ap_C})
    weight_C = said.positives_C.double()
    means = {"map": float(ap_C.nanmean())}
    if micro:
        means["micro_map"] = average_precision_of(at_thresholds(lambda: known_entries(score_NC, target_NC)))
    means["weighted_map"] = float((ap_C.nan_to_num() * weight_C).sum() / weight_C.sum())
    covered = {"coverage_error": float(said.coverage_N[said.seen_N].double().mean())}
    return replace(found, means=means | found.means | covered, map_slope_N=slope_N)


def threshold_metrics(
    score_NC: Tensor | np.ndarray,
    target_NC: Tensor | np.ndarray,
    threshold_C: Tensor | np.ndarray | float | None = None,
) -> MultilabelResult:
    """What `multilabel_metrics` says of these thresholds, without what ranking alone decides. Raises as it does."""
    score_NC, target_NC = checked(score_NC, target_NC)
    return _result(_said(score_NC, target_NC, _limits(threshold_C, score_NC)), {})


def known_entries(score_NC: Tensor, target_NC: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores of what is known, all labels together, and whether they are positive; a block of images at a time."""
    for score_BC, target_BC in row_blocks(score_NC, target_NC):
        known_BC = target_BC >= 0
        yield score_BC[known_BC], target_BC[known_BC] == 1


def columns(score_NC: Tensor, target_NC: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For every label its images: scores and targets, each in one piece of memory."""
    together = max(1, CELLS // max(1, len(score_NC)))
    for score_NG, target_NG in zip(score_NC.split(together, 1), target_NC.split(together, 1), strict=True):
        yield from zip(score_NG.T.contiguous(), target_NG.T.contiguous(), strict=True)


def checked(score_NC: Tensor | np.ndarray, target_NC: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Both on the CPU, scores of at least single precision, targets int8. Raises as `multilabel_metrics`."""
    score_NC, target_NC = torch.as_tensor(score_NC).detach().cpu(), torch.as_tensor(target_NC).cpu()
    if score_NC.ndim != 2 or target_NC.shape != score_NC.shape:
        raise SpecError(
            "metrics.shape",
            f"scores of {tuple(score_NC.shape)} and targets of {tuple(target_NC.shape)}: expected (N, C) twice",
        )
    known = False
    for (target_BC,) in row_blocks(target_NC):
        if not bool(((target_BC == 1) | (target_BC == 0) | (target_BC == UNKNOWN)).all()):
            raise SpecError("metrics.target", "targets must be 1, 0, or -1 for unknown")
        known = known or bool((target_BC >= 0).any())
    if not len(score_NC):
        raise DataError("metrics.no-images", "there is no image to measure on")
    if not known:
        raise DataError("metrics.all-unknown", "no label of any image is known: there is nothing to measure on")
    refuse_nan(score_NC)
    if score_NC.dtype in (torch.bfloat16, torch.float16):
        score_NC = score_NC.float()
    return score_NC, target_NC.to(torch.int8)


class _Said(NamedTuple):
    """Per label, int64: entries predicted rightly, predicted, positive, known. Per image: whether anything is wrong,
    or known, bool; known labels down to the lowest positive, int64, 0 without a positive.
    """

    right_C: Tensor
    predicted_C: Tensor
    positives_C: Tensor
    known_C: Tensor
    wrong_N: Tensor
    seen_N: Tensor
    coverage_N: Tensor


def _said(score_NC: Tensor, target_NC: Tensor, limit_C: Tensor) -> _Said:
    total_4C = torch.zeros(4, score_NC.shape[1], dtype=torch.int64)
    images = []
    for score_BC, target_BC in row_blocks(score_NC, target_NC):
        known_BC, positive_BC = target_BC >= 0, target_BC == 1
        predicted_BC = (score_BC >= limit_C) & known_BC
        entries = (predicted_BC & positive_BC, predicted_BC, positive_BC, known_BC)
        total_4C += torch.stack([each_BC.sum(0) for each_BC in entries])
        wrong_B = ((predicted_BC != positive_BC) & known_BC).any(1)
        images.append((wrong_B, known_BC.any(1), _coverage(score_BC, known_BC, positive_BC)))
    return _Said(*total_4C, *(torch.cat(parts) for parts in zip(*images, strict=True)))


def _ranked(score_NC: Tensor, target_NC: Tensor) -> tuple[Tensor, Tensor]:
    """(average precision of each label, slope of their mean in the weight of each image), float64."""
    ap_C = torch.full((score_NC.shape[1],), torch.nan, dtype=torch.float64)
    slope_N = torch.zeros(len(score_NC), dtype=torch.float64)
    for label, (score_N, target_N) in enumerate(columns(score_NC, target_NC)):
        known_N = target_N >= 0
        entries = (score_N[known_N], target_N[known_N] == 1)
        counts = at_thresholds(lambda entries=entries: [entries])
        if len(counts.score_T):
            ap_C[label] = average_precision_of(counts)
            slope_N[known_N] += precision_slopes(counts, *entries)
    return ap_C, slope_N / (~ap_C.isnan()).sum().clamp(min=1)


def _result(said: _Said, per_label: dict[str, Tensor]) -> MultilabelResult:
    per_label = per_label | precision_recall_f1(said.right_C, said.predicted_C, said.positives_C)
    means = _at_thresholds(per_label, said.positives_C, said.right_C, said.predicted_C)
    means["exact_match"] = float((~said.wrong_N[said.seen_N]).double().mean())
    return MultilabelResult(means, per_label, said.positives_C, said.known_C, said.wrong_N, said.seen_N)


def _limits(threshold_C: Tensor | np.ndarray | float | None, score_NC: Tensor) -> Tensor:
    classes = score_NC.shape[1]
    limit_C = torch.as_tensor(THRESHOLD if threshold_C is None else threshold_C).cpu()
    if limit_C.ndim and limit_C.shape != (classes,):
        raise SpecError("metrics.shape", f"{len(limit_C)} thresholds for {classes} labels", field="threshold_C")
    # A threshold is compared in the scores' own precision: 0.7 and float32(0.7) are meant to be the same.
    return limit_C.to(score_NC.dtype).expand(classes)


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
