"""Losses and miners made in Python refuse what `kinsight train` refuses: every setting, beyond every bound."""

import math
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pytest

from kinsight import losses
from kinsight.errors import SpecError
from kinsight.specs import losses as specs
from kinsight.specs import miners
from kinsight.specs.base import Spec

SHARED = set(specs.LossBase.model_fields) | {"kind", "miner", "memory"}
MADE: dict[type[Spec], Callable[..., Any]] = {
    miners.DistanceWeightedMiner: losses.DistanceWeighted,
    miners.MultiSimilarityMiner: losses.MultiSimilarityPairs,
    miners.AngularMiner: losses.Angular,
}
MADE |= {spec: getattr(losses, spec.__name__) for spec in get_args(specs.OverPairs) if spec is not specs.SigmoidPairs}
HEADS = {spec: getattr(losses, spec.__name__) for spec in get_args(specs.OverClasses | specs.OverLabels)}


def beyond(field: Any) -> Iterator[float]:
    """A number on the wrong side of each bound, near it."""
    step = 1 if field.annotation is int else 1e-3
    for bound in field.metadata:
        for name, change in (("gt", 0), ("lt", 0), ("ge", -step), ("le", step)):
            if hasattr(bound, name):
                limit = getattr(bound, name)
                yield limit + change * max(1, abs(limit))


def wrong_settings(made: dict[Any, Any]) -> Iterator[Any]:
    for spec, make in made.items():
        for name, field in spec.model_fields.items():
            if name in SHARED or field.annotation not in (int, float):
                continue
            for value in (*beyond(field), math.nan):
                yield pytest.param(make, name, value, id=f"{spec.__name__}-{name}-{value:g}")


@pytest.mark.parametrize(("make", "name", "value"), list(wrong_settings(MADE)))
def test_a_number_out_of_bounds_is_refused_by_name(make: Callable[..., Any], name: str, value: float) -> None:
    with pytest.raises(SpecError, match="expected") as caught:
        make(**{name: value})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.Contrastive(distance="l2"), "distance: 'l2': expected 'euclidean'"),  # type: ignore[arg-type]
        (lambda: losses.Triplet(distance="l2"), "distance: 'l2'"),  # type: ignore[arg-type]
        (lambda: losses.Triplet(mean_over="some"), "mean_over: 'some': expected 'active' or 'all'"),  # type: ignore[arg-type]
        (lambda: losses.Triplet(margin="0.2"), "margin: '0.2': expected a number from 0, at most 4"),  # type: ignore[arg-type]
        (lambda: losses.Triplet(margin=-1), "margin: -1: expected a number from 0, at most 4"),
        (lambda: losses.RecallAtK(ks=()), "ks: "),
        (lambda: losses.RecallAtK(ks=(1, 0)), "ks: "),
        (lambda: losses.FastAP(bins=2.5), "bins: 2.5"),  # type: ignore[arg-type]
    ],
)
def test_other_wrong_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_numbers_of_arrays_are_numbers() -> None:
    assert losses.Triplet(np.float32(0.25)).margin == 0.25  # type: ignore[arg-type]
    assert losses.RecallAtK(ks=tuple(np.array([1, 2]))).ks == (1, 2)
    assert losses.FastAP(np.int64(12)).bins == 12  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", MADE, ids=lambda spec: spec.__name__)
def test_defaults_are_those_of_the_spec(spec: type[Spec]) -> None:
    made = MADE[spec]()
    for name, field in spec.model_fields.items():
        if name not in SHARED and name in vars(made):
            assert getattr(made, name) == (tuple(field.default) if isinstance(field.default, list) else field.default)


NEGATIVE = [
    pytest.param(make, name, id=f"{spec.__name__}-{name}")
    for spec, make in HEADS.items()
    for name, field in spec.model_fields.items()
    if name not in SHARED and field.annotation in (int, float)
]


@pytest.mark.parametrize(("make", "name"), NEGATIVE)
def test_heads_refuse_numbers_below_their_bounds(make: Callable[..., Any], name: str) -> None:
    with pytest.raises(SpecError, match="expected"):
        make(5, 4, **{name: -1})


@pytest.mark.parametrize("make", [losses.SoftTriple, losses.SubCenterArcFace])
def test_centres_are_a_number(make: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match="whole number from 2"):
        make(5, 4, centres=math.nan)


def test_sigmoid_pairs_and_memory_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(SpecError, match="above 0"):
        losses.SigmoidPairs(scale=0)
    with pytest.raises(SpecError, match="from 0"):
        losses.Memory(4, 4, warmup_steps=-1)
    with pytest.raises(SpecError, match="from 1"):
        losses.Memory(0, 4)
