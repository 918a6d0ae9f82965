"""What a page about a classifier is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
)

_LEAST = 1e-12  # probability whose logarithm is taken


@dataclass(frozen=True)
class Classified:
    """Images with what they show and what a classifier says of them. N images, C classes.

    probability_NC: float32, by the bundle's temperature. target: int64 (N,) class numbers, or int8 (N, C): 1, 0, -1 for
    unknown. uri_N: addresses of the images. metrics: flat name -> number.
    one, several: all results, of one class an image or of several labels; the other is None. threshold_C: what labels
    were predicted by (several). chosen, at_chosen: thresholds found on these images, and the results at them.
    reliability, calibrated: as the model is, and with the temperature found on these images; fitted: that. raw: without
    any temperature, where the model has one (temperature).
    each_class, num_pictures: what is shown. seed: of what is drawn for the page.
    """

    class_names: Sequence[str]
    probability_NC: Tensor
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
        return not torch.allclose(self.chosen.threshold_C, self.threshold_C, atol=1e-4)

    def said(self, row: int) -> list[int]:
        """The classes predicted for an image, ascending."""
        if self.one is not None:
            return [int(self.one.predicted_N[row])]
        return [int(place) for place in self._predicted_NC[row].nonzero().squeeze(1)]

    def shows(self, row: int) -> list[int]:
        """The classes an image is known to show, ascending."""
        if self.one is not None:
            return [int(self.target[row])]
        return [int(place) for place in (self.target[row] == 1).nonzero().squeeze(1)]

    @cached_property
    def _predicted_NC(self) -> Tensor:
        assert self.threshold_C is not None, "of several labels"
        return self.probability_NC >= self.threshold_C.to(self.probability_NC.dtype)

    @cached_property
    def right_N(self) -> Tensor:
        """bool: images of which nothing wrong is said."""
        if self.one is not None:
            return self.one.rank_N == 1
        return ((self._predicted_NC == (self.target == 1)) | (self.target < 0)).all(1)

    @cached_property
    def surprise_N(self) -> Tensor:
        """float64: negative log-likelihood of what each image shows, in nats: the larger, the worse the mistake."""
        if self.one is not None:
            own_N = self.probability_NC.gather(1, self.target[:, None]).squeeze(1)
            return -own_N.double().clamp(min=_LEAST).log()
        likely_NC = self.probability_NC.double().clamp(_LEAST, 1 - _LEAST)
        share_NC = torch.where(self.target == 1, likely_NC, 1 - likely_NC)
        return -share_NC.log().masked_fill(self.target < 0, 0.0).sum(1)
