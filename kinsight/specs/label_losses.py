"""Losses for images of any number of labels: one yes or no a label, over a linear classifier with bias."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from kinsight.specs.base import Spec
from kinsight.specs.loss_base import Temperature

MOST_POSITIVE_WEIGHT = 10_000.0

Focusing = Annotated[float, Field(ge=0, le=20)]


class _LabelLoss(Spec):
    weight: float = Field(default=1.0, gt=0, le=1000, description="factor of this term; only with a second term")

    @property
    def ce(self) -> None:
        """Cross-entropy takes one class an image."""
        return None


class Bce(_LabelLoss):
    """Binary cross-entropy, summed over the labels."""

    kind: Literal["bce"] = "bce"
    positive_weight: Annotated[float, Field(gt=0, le=MOST_POSITIVE_WEIGHT)] | Literal["balanced"] | None = Field(
        default=None,
        description="factor of positives: a number, or `balanced` for negatives / positives of each label in training, "
        "10,000 at most",
    )

    @field_validator("positive_weight", mode="before")
    @classmethod
    def _a_number_or_the_word(cls, given: Any) -> Any:
        if isinstance(given, str) and given != "balanced":
            try:
                return float(given)
            except ValueError:
                raise ValueError(f"loss.positive_weight={given}: expected a number above 0, or balanced") from None
        return given


class Focal(_LabelLoss):
    """Binary cross-entropy that fades for labels which are told well already."""

    kind: Literal["focal"] = "focal"
    gamma: Focusing = Field(default=2.0, description="how fast it fades; 0: not at all")
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=0.25, description="weight of positives, 1 - alpha that of negatives; null: both 1"
    )


class Asl(_LabelLoss):
    """Asymmetric loss: easy negatives fade faster than easy positives, and the easiest are dropped."""

    kind: Literal["asl"] = "asl"
    gamma_positive: Focusing = Field(default=0.0, description="how fast positives fade")
    gamma_negative: Focusing = Field(default=4.0, description="how fast negatives fade")
    clip: float = Field(default=0.05, ge=0, lt=1, description="probability below which a negative costs nothing")


class TwoWay(_LabelLoss):
    """Positive logits above negative ones, among the labels of an image and among the images of a label."""

    kind: Literal["two-way"] = "two-way"
    positive_temperature: Temperature = Field(default=4.0, description="of the positives' soft minimum")
    negative_temperature: Temperature = Field(default=1.0, description="of the negatives' soft maximum")


OverLabels = Bce | Focal | Asl | TwoWay
"""Losses over labels of which an image has any number."""
