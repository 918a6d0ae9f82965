"""One label per image: how often the best-scored classes hold the true one, and which classes are taken for which.

Shapes: N images, C classes, M of them that occur.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.metrics.blocks import row_blocks


class Confusion(NamedTuple):
    """`images` images of class `true` were taken for class `predicted`."""

    true: int
    predicted: int
    images: int


@dataclass(frozen=True)
class ClassificationResult:
    """Made by `classification_metrics`.

    means: accuracy, top{k}_accuracy for each of ks, macro_recall, macro_precision.
    per_class: recall, precision, f1, float64 (C,): NaN where a class neither occurs nor is predicted (recall: where it
    does not occur), and 0 for the precision of a class that occurs and is never predicted.
    support_C: int64, images of each class. rank_N: int64, place of the true class by score, from 1.
    predicted_N, label_N: int64. `confusion_CC` is the whole confusion matrix, for your own use: pages and files take
    `confusions`, whose size does not grow with the square of the classes.
    """

    means: dict[str, float]
    per_class: dict[str, Tensor]
    support_C: Tensor
    rank_N: Tensor
    predicted_N: Tensor
    label_N: Tensor

    @cached_property
    def confusion_CC(self) -> Tensor:
        """int64: row true class, column predicted class. As large as classes times classes."""
        classes = len(self.support_C)
        return torch.bincount(self.label_N * classes + self.predicted_N, minlength=classes**2).view(classes, classes)

    def confusions(self, most: int) -> list[Confusion]:
        """The pairs of classes most often confused, the most frequent first, never a class with itself."""
        classes, wrong_N = len(self.support_C), self.label_N != self.predicted_N
        pair_M, count_M = (self.label_N[wrong_N] * classes + self.predicted_N[wrong_N]).unique(return_counts=True)
        order_M = count_M.argsort(descending=True, stable=True)[:most]
        found = zip(pair_M[order_M].tolist(), count_M[order_M].tolist(), strict=True)
        return [Confusion(pair // classes, pair % classes, images) for pair, images in found]


def classification_metrics(
    score_NC: Tensor | np.ndarray, label_N: Tensor | np.ndarray, ks: Sequence[int] = (5,)
) -> ClassificationResult:
    """How well scores tell the one class of each image.

    score_NC: floating point, the higher the likelier (logits or probabilities alike); label_N: integers 0 <= label < C.
    Equal scores: the lower class first. accuracy: share of images whose class has the highest score; top{k}_accuracy:
    whose class is among the k highest. macro_recall: mean over the classes that occur (scikit-learn's balanced
    accuracy). macro_precision: mean over the classes that occur or are predicted, one that is never predicted counting
    as 0 (scikit-learn's `precision_score(average="macro", zero_division=0)`).
    Raises DataError: no image, a score that is NaN, a label that is no class, each with its row; SpecError: a k < 1.
    """
    if any(k < 1 for k in ks):
        raise SpecError("metrics.ks", f"ks={[*ks]}: every k must be at least 1", field="ks")
    score_NC, label_N = torch.as_tensor(score_NC).cpu(), torch.as_tensor(label_N).cpu().long()
    _check(score_NC, label_N)
    blocks = [ranks(score_BC, label_B) for score_BC, label_B in row_blocks(score_NC, label_N)]
    rank_N, predicted_N = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return ranked_result(rank_N, predicted_N, label_N, classes=score_NC.shape[1], ks=ks)


def ranked_result(
    rank_N: Tensor, predicted_N: Tensor, label_N: Tensor, *, classes: int, ks: Sequence[int]
) -> ClassificationResult:
    """`classification_metrics` of images whose scores have been looked at already, by `ranks`; all on the CPU."""
    support_C = torch.bincount(label_N, minlength=classes)
    predicted_C = torch.bincount(predicted_N, minlength=classes)
    right_C = torch.bincount(label_N[rank_N == 1], minlength=classes).double()
    per_class = precision_recall_f1(right_C, predicted_C, support_C)
    means = {"accuracy": float((rank_N == 1).double().mean())}
    means |= {f"top{k}_accuracy": float((rank_N <= k).double().mean()) for k in ks}
    means |= {f"macro_{name}": float(per_class[name].nanmean()) for name in ("recall", "precision")}
    return ClassificationResult(means, per_class, support_C, rank_N, predicted_N, label_N)


def precision_recall_f1(right_C: Tensor, predicted_C: Tensor, support_C: Tensor) -> dict[str, Tensor]:
    """precision, recall, f1: float64 (C,), of counts. NaN where nothing can be said: recall without a true one, the
    others where there is neither a true nor a predicted one; 0 for the precision of what is there and never predicted.
    """
    any_C = predicted_C + support_C > 0
    unknown = torch.tensor(torch.nan, dtype=torch.float64)
    right_C = right_C.double()
    precision_C = torch.where(any_C, right_C / predicted_C.clamp(min=1), unknown)
    recall_C = torch.where(support_C > 0, right_C / support_C.clamp(min=1), unknown)
    f1_C = torch.where(any_C, 2 * right_C / (predicted_C + support_C).clamp(min=1), unknown)
    return {"precision": precision_C, "recall": recall_C, "f1": f1_C}


def ranks(score_BC: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
    """(place of the true class from 1, best class), int64 (B,), where the scores are; of equal ones the lower first."""
    place_C = torch.arange(score_BC.shape[1], device=score_BC.device)
    own_B1 = score_BC.gather(1, label_B[:, None])
    before_BC = (score_BC > own_B1) | ((score_BC == own_B1) & (place_C < label_B[:, None]))
    return before_BC.sum(1) + 1, score_BC.argmax(1)


def refuse_nan(score_NC: Tensor, *, first: int = 0) -> None:
    """Raise DataError naming the first row that holds a NaN. first: number of the first row."""
    for (score_BC,) in row_blocks(score_NC):
        if bool((bad_B := score_BC.isnan().any(1)).any()):
            row = first + int(bad_B.nonzero()[0])
            raise DataError("metrics.nan", f"the scores of row {row} hold NaN", remedy="score finite embeddings")
        first += len(score_BC)


def _check(score_NC: Tensor, label_N: Tensor) -> None:
    if score_NC.ndim != 2 or label_N.shape != score_NC.shape[:1]:
        raise SpecError(
            "metrics.shape",
            f"scores of {tuple(score_NC.shape)} and labels of {tuple(label_N.shape)}: expected (N, C) and (N,)",
        )
    if not len(label_N):
        raise DataError("metrics.no-images", "there is no image to measure on")
    refuse_nan(score_NC)
    if bool((bad_N := (label_N < 0) | (label_N >= score_NC.shape[1])).any()):
        row = int(bad_N.nonzero()[0])
        raise DataError(
            "metrics.label",
            f"the label of row {row} is {int(label_N[row])}; the scores know classes 0 to {score_NC.shape[1] - 1}",
        )
