"""Which images are alike, as far as their labels say."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag

_WEIGHTED = Field(
    default=False,
    description="positives weigh by their likeness; for contrastive, multi-similarity, info-nce, supcon, sigmoid-pairs",
)
WEIGH_POSITIVES = ("contrastive", "multi-similarity", "info-nce", "supcon", "sigmoid-pairs")
"""Losses that know weights of pairs."""


class SameLabelSpec(Spec):
    """One label per image; equal ones are alike."""

    kind: Literal["same-label"] = "same-label"


class SharedLabelsSpec(Spec):
    """Several labels per image; those that share some are alike."""

    kind: Literal["shared-labels"] = "shared-labels"
    share: float = Field(
        default=0.0, ge=0, le=1, description="least share of the labels of both images; 0: any shared one is enough"
    )
    weighted: bool = _WEIGHTED


class HierarchySpec(Spec):
    """Classes in super-classes: alike at each level, with a weight of its own."""

    kind: Literal["hierarchy"] = "hierarchy"
    columns: list[str] = Field(
        default=["group"],
        min_length=1,
        description="columns with the coarser labels, finest first; group: the source's",
    )
    weights: list[Annotated[float, Field(ge=0, le=1000)]] | None = Field(
        default=None,
        min_length=2,
        description="of the losses at the class and at each column; null: 1, and half as much at each coarser one",
    )

    @property
    def level_weights(self) -> tuple[float, ...]:
        """Of the class and of each column."""
        if self.weights is not None:
            return tuple(self.weights)
        return tuple(0.5**level for level in range(len(self.columns) + 1))

    @model_validator(mode="after")
    def _a_weight_each(self) -> "HierarchySpec":
        if self.weights is None:
            return self
        if len(self.weights) != len(self.columns) + 1:
            raise ValueError(
                f"weights={self.weights}: expected {len(self.columns) + 1}, for the class and for each of "
                f"columns={self.columns}"
            )
        if max(self.weights) == 0:
            raise ValueError("weights: at least one must be above 0")
        return self


class SoftLabelsSpec(Spec):
    """Classes are alike to a degree, given as a matrix."""

    kind: Literal["soft-labels"] = "soft-labels"
    path: str = Field(description="address of an .npy file: classes x classes, 0 to 1, in the order of the class names")
    positive_from: float = Field(default=0.7, gt=0, le=1, description="pairs at least this alike are positives")
    negative_below: float = Field(default=0.3, gt=0, le=1, description="pairs less alike than this are negatives")
    weighted: bool = _WEIGHTED

    @model_validator(mode="after")
    def _in_order(self) -> "SoftLabelsSpec":
        if self.negative_below > self.positive_from:
            raise ValueError(
                f"negative_below={self.negative_below}: must be at most positive_from={self.positive_from}"
            )
        return self


Relation = Annotated[
    SameLabelSpec | SharedLabelsSpec | HierarchySpec | SoftLabelsSpec,
    Field(discriminator="kind"),
    default_tag("kind", "same-label"),
]
