"""What the specs of all losses share."""

from typing import Annotated

from pydantic import Field

from kinsight.specs.base import Spec

Temperature = Annotated[float, Field(gt=0, le=10)]
Scale = Annotated[float, Field(gt=0, le=1000)]
CosineMargin = Annotated[float, Field(ge=0, le=1)]


class CrossEntropyTerm(Spec):
    """Label-smoothed cross-entropy on unit embeddings, with class weights of its own, added to the main loss."""

    weight: float = Field(default=1.0, gt=0, le=1000, description="factor of this term in the sum")
    temperature: Temperature = Field(default=0.05, description="divisor of the logits; smaller is sharper")
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="share of probability spread over the other classes")


class LossBase(Spec):
    weight: float = Field(default=1.0, gt=0, le=1000, description="factor of this term; only with a second term")
    ce: CrossEntropyTerm | None = Field(default=None, description="adds a label-smoothed cross-entropy term")
