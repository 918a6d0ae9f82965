"""What a page about a classifier is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from kinsight.metrics import (
    ClassificationResult,
    LabelThresholds,
    MultilabelResult,
    Reliability,
    Temperature,
    probabilities,
)
from kinsight.metrics.blocks import row_blocks

_LEAST = 1e-12  # probability whose logarithm is taken


@dataclass(frozen=True)
class Classified:
    """Images with what they show and what a classifier says of them. N images, C classes.

    logit_NC: float32; probabilities follow by the model's temperature, None where it has none. target: int64 (N,) class
    numbers, or int8 (N, C): 1, 0, -1 for unknown. uri_N: addresses of the images. metrics: flat name -> number, of some
    with `<name>.low` and `.high`, bounds of that confidence.
    one, several: all results, of one class an image or of several labels; the other is None. threshold_C: what labels
    were predicted by (several). chosen, at_chosen: thresholds found on these images, and the results at them.
    reliability, calibrated: as the model is, and with the temperature found on these images; fitted: that. raw: without
    any temperature, where the model has one. kept_here: the model's temperature, but for one at its bound, and its
    thresholds are what these very images have chosen, and `metrics` are without them but for those that say so.
    each_class, num_pictures: what is shown. seed: of what is drawn for the page.
    """

    class_names: Sequence[str]
    logit_NC: Tensor
    target: Tensor
    uri_N: pa.ChunkedArray
    metrics: Mapping[str, Any]
    reliability: Reliability
    calibrated: Reliability
    fitted: Temperature
    temperature: float | None = None
    raw: Reliability | None = None
    one: ClassificationResult | None = None
    several: MultilabelResult | None = None
    threshold_C: Tensor | None = None
    chosen: LabelThresholds | None = None
    at_chosen: MultilabelResult | None = None
    kept_here: bool = False
    confidence: float = 0.95
    each_class: bool = True
    num_pictures: int = 10
    seed: int = 0

    def __len__(self) -> int:
        return len(self.target)

    def uri(self, row: int) -> str:
        return self.uri_N[row].as_py()

    @property
    def has_found(self) -> bool:
        """Whether these images would choose another temperature than the model's."""
        return self.temperature is None or abs(self.fitted.temperature / self.temperature - 1) > 1e-3

    @property
    def has_chosen(self) -> bool:
        """Whether these images would choose other thresholds than labels were predicted by."""
        if self.chosen is None or self.threshold_C is None:
            return False
        return self.chosen.differs_from(self.threshold_C)

    def kept(self) -> "Classified":
        """The same once the model, which had neither, has what was found here, but for a temperature at its bound."""
        assert self.temperature is None, "it has none yet"
        known: dict[str, Any] = {"kept_here": True}
        if not self.fitted.at_bound:
            known |= {"temperature": self.fitted.temperature, "reliability": self.calibrated, "raw": self.reliability}
        if self.several is not None and self.at_chosen is not None and self.chosen is not None:
            both = self.several.per_label | self.at_chosen.per_label  # a temperature changes no order
            known |= {"threshold_C": self.chosen.threshold_C, "several": replace(self.at_chosen, per_label=both)}
        return replace(self, **known)

    def probability(self, row: int) -> Tensor:
        """float32 (C,): of each class, for an image."""
        return self._probabilities(self.logit_NC[row : row + 1])[0]

    def said(self, row: int) -> list[int]:
        """The classes predicted for an image, ascending; of several labels those of which the truth is known."""
        if self.one is not None:
            return [int(self.one.predicted_N[row])]
        assert self.threshold_C is not None, "of several labels"
        said_C = (self.probability(row) >= self.threshold_C.float()) & (self.target[row] >= 0)
        return said_C.nonzero().squeeze(1).tolist()

    def shows(self, row: int) -> list[int]:
        """The classes an image is known to show, ascending."""
        if self.one is not None:
            return [int(self.target[row])]
        return (self.target[row] == 1).nonzero().squeeze(1).tolist()

    @cached_property
    def right_N(self) -> Tensor:
        """bool: images of which nothing wrong is said."""
        if self.one is not None:
            return self.one.rank_N == 1
        assert self.several is not None, "either one class or several labels"
        return ~self.several.wrong_N

    @property
    def seen_N(self) -> Tensor:
        """bool: images of which anything is known."""
        return self.several.seen_N if self.several is not None else torch.ones(len(self), dtype=torch.bool)

    @cached_property
    def surprise_N(self) -> Tensor:
        """float64: negative log-likelihood of what each image shows, in nats: the larger, the worse the mistake."""
        return torch.cat([self._surprise(*block) for block in row_blocks(self.logit_NC, self.target)])

    def _probabilities(self, logit_BC: Tensor) -> Tensor:
        return probabilities(logit_BC, several=self.several is not None, temperature=self.temperature)

    def _surprise(self, logit_BC: Tensor, target: Tensor) -> Tensor:
        probability_BC = self._probabilities(logit_BC)
        if target.ndim == 1:
            own_B = probability_BC.gather(1, target[:, None]).squeeze(1)
            return -own_B.double().clamp(min=_LEAST).log()
        likely_BC = probability_BC.double().clamp(_LEAST, 1 - _LEAST)
        share_BC = torch.where(target == 1, likely_BC, 1 - likely_BC)
        return -share_BC.log().masked_fill(target < 0, 0.0).sum(1)
