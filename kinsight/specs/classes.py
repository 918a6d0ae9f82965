"""How a classifier is judged, after a training and by an evaluation."""

from typing import Annotated

from pydantic import Field

from kinsight.specs.base import Spec


class ClassesSpec(Spec):
    """What is told of a classifier (tasks classification and multilabel)."""

    ks: list[Annotated[int, Field(ge=1)]] = Field(
        default=[5],
        description="classification: also how often the class is among the k most probable; 2 to one below the number "
        "of classes",
    )
    each_class: bool = Field(
        default=True, description="a table with a row for each class: per_class.csv, and on the page"
    )
    num_visualizations: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="pictures on the page with true and predicted labels: the worst mistakes, and right ones where "
        "there are fewer",
    )
    precision: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="multilabel: choose the lowest threshold of each label at which this precision is measured; null: "
        "the one with the best F1",
    )

    def differing(self, *names: str) -> list[str]:
        """Those of the settings that have another value than by default."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    def without_effect(self, *, several: bool) -> list[str]:
        """Settings that are set and belong to the other task. several: images may have any number of labels."""
        return self.differing("ks" if several else "precision")
