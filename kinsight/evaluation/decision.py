"""What a classifier's logits say: probabilities, and the classes or labels that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kinsight.metrics import probabilities
from kinsight.metrics.labels import THRESHOLD
from kinsight.models import BundleHeader

_DIGITS = 7  # that count, of a probability in an answer: float32 has no more


@dataclass(frozen=True)
class Decision:
    """task: one class an image, or any number of labels. temperature: divisor of the logits, None where none has been
    fitted. threshold_C: float64, probability from which on a label is predicted; None in `classification`. chosen:
    whether the thresholds were chosen on images; else they are the usual ones.
    """

    task: Literal["classification", "multilabel"]
    class_names: tuple[str, ...]
    temperature: float | None = None
    threshold_C: Tensor | None = None
    chosen: bool = False

    @classmethod
    def of(cls, header: BundleHeader) -> "Decision | None":
        """What a bundle decides by; None for one without classifier."""
        if header.task == "metric":
            return None
        several = header.task == "multilabel"
        chosen = header.label_thresholds or [THRESHOLD] * len(header.class_names)
        threshold_C = torch.tensor(chosen, dtype=torch.float64) if several else None
        return cls(header.task, header.class_names, header.temperature, threshold_C, bool(header.label_thresholds))

    @property
    def several(self) -> bool:
        """Whether an image may have any number of labels."""
        return self.task == "multilabel"

    def chosen_at(self, temperature: float | None) -> Tensor | None:
        """float64 (C,): the chosen thresholds by another temperature, parting the same logits; None without."""
        if not self.chosen or self.threshold_C is None:
            return None
        ratio = (self.temperature or 1.0) / (temperature or 1.0)
        if ratio == 1:
            return self.threshold_C
        moved_C = (self.threshold_C.logit() * ratio).sigmoid()
        return torch.where(self.threshold_C < 1, moved_C, self.threshold_C)  # above every probability: stays there

    def probabilities(self, logit_BC: Tensor) -> Tensor:
        """float32 (B, C): softmax over the classes, or of each label on its own."""
        return probabilities(logit_BC, several=self.several, temperature=self.temperature)

    def answers(self, logit_BC: Tensor, *, top_k: int | None = None) -> Iterator[dict[str, Any]]:
        """For each image, as plain data: in `classification` class, class_name, class_probs; in `multilabel`
        predictions (of every label), classes and class_names (of those predicted), probs (of every label), class_probs.

        top_k: names in class_probs, the most probable; None: all, in class order.
        """
        probability_BC = self.probabilities(logit_BC)
        listed_BK = self._listed(probability_BC, top_k).tolist()
        if self.threshold_C is None:
            best_B = logit_BC.argmax(1).tolist()
            for listed, row, best in zip(listed_BK, probability_BC.tolist(), best_B, strict=True):
                yield {"class": best, "class_name": self.class_names[best], "class_probs": self._named(listed, row)}
            return
        predicted_BC = probability_BC >= self.threshold_C.to(probability_BC.dtype)
        for listed, row, predicted in zip(listed_BK, probability_BC.tolist(), predicted_BC.tolist(), strict=True):
            classes = [number for number, yes in enumerate(predicted) if yes]
            yield {
                "class_probs": self._named(listed, row),
                "classes": classes,
                "predictions": predicted,
                "class_names": [self.class_names[number] for number in classes],
                "probs": [_rounded(value) for value in row],
            }

    def _listed(self, probability_BC: Tensor, top_k: int | None) -> Tensor:
        classes = probability_BC.shape[1]
        if top_k is None:
            return torch.arange(classes).expand(len(probability_BC), classes)
        return probability_BC.argsort(dim=1, descending=True, stable=True)[:, :top_k]

    def _named(self, listed: list[int], row: list[float]) -> dict[str, float]:
        return {self.class_names[number]: _rounded(row[number]) for number in listed}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
