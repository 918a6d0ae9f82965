"""Intervals of numbers that are means over images."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kinsight.metrics import bootstrap_intervals
from kinsight.metrics.classes import LEAST_CLASSES


def image_intervals(value_of: Mapping[str, Tensor], resamples: int, confidence: float, seed: int) -> dict[str, float]:
    """`<name>.low` and `.high` of each mean, resampling images; none for a handful of images, or without resamples.

    value_of: float64 (N,), the values of the same images. Where all are the same, resampling can tell nothing either.
    Bounds stay within 0 and 1, as the numbers do.
    """
    images = len(next(iter(value_of.values())))
    value_of = {name: value_N for name, value_N in value_of.items() if bool((value_N != value_N[0]).any())}
    if not resamples or images < LEAST_CLASSES or not value_of:
        return {}
    found = bootstrap_intervals(  # each image a class of its own
        torch.arange(images), value_of, confidence=confidence, resamples=resamples, seed=seed
    )
    bounds = {}
    for name, interval in found.items():
        bounds[f"{name}.low"], bounds[f"{name}.high"] = max(interval.low, 0.0), min(interval.high, 1.0)
    return bounds
