"""What training minimises: one arm per loss, each with just the settings it uses."""

from typing import Annotated, Literal

from pydantic import Field

from kinsight.specs.base import Spec, default_tag

Temperature = Annotated[float, Field(gt=0, le=10)]
Scale = Annotated[float, Field(gt=0, le=1000)]
CosineMargin = Annotated[float, Field(ge=0, le=1)]
AngleMultiple = Annotated[int, Field(ge=1, le=8)]


class CrossEntropyTerm(Spec):
    """Label-smoothed cross-entropy on unit embeddings, with class weights of its own, added to the main loss."""

    weight: float = Field(default=1.0, gt=0, le=1000, description="factor of this term in the sum")
    temperature: Temperature = Field(default=0.05, description="divisor of the logits; smaller is sharper")
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="share of probability spread over the other classes")


class _Loss(Spec):
    weight: float = Field(default=1.0, gt=0, le=1000, description="factor of this term; only with a second term")
    ce: CrossEntropyTerm | None = Field(default=None, description="adds a label-smoothed cross-entropy term")


class Softmax(_Loss):
    """Cross-entropy over a linear layer with bias; embeddings are not normalised."""

    kind: Literal["softmax"] = "softmax"


class NormalizedSoftmax(_Loss):
    """Cross-entropy over cosines divided by a temperature."""

    kind: Literal["normalized-softmax"] = "normalized-softmax"
    temperature: Temperature = Field(default=0.05, description="divisor of the cosines; smaller is sharper")


class AMSoftmax(_Loss):
    """Cosine of the own class lowered by a margin, then scaled."""

    kind: Literal["am-softmax"] = "am-softmax"
    margin: CosineMargin = Field(default=0.4, description="subtracted from the own class's cosine")
    scale: Scale = Field(default=30.0, description="factor of the cosines")


class CosFace(_Loss):
    """AM-Softmax with the settings usual for faces."""

    kind: Literal["cosface"] = "cosface"
    margin: CosineMargin = Field(default=0.35, description="subtracted from the own class's cosine")
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class ArcFace(_Loss):
    """Angle to the own class widened by a margin, then scaled."""

    kind: Literal["arcface"] = "arcface"
    margin_deg: float = Field(
        default=28.6, ge=0, le=90, description="added to the own class's angle, in degrees, not radians"
    )
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class LargeMarginSoftmax(_Loss):
    """Angle to the own class multiplied; embeddings and class weights keep their lengths."""

    kind: Literal["large-margin-softmax"] = "large-margin-softmax"
    margin: AngleMultiple = Field(default=4, description="multiple of the own class's angle, a whole number")
    scale: Scale = Field(default=1.0, description="factor of the logits")


class SphereFace(_Loss):
    """Angle to the own class multiplied; class weights are normalised, embeddings keep their lengths."""

    kind: Literal["sphereface"] = "sphereface"
    margin: AngleMultiple = Field(default=4, description="multiple of the own class's angle, a whole number")
    scale: Scale = Field(default=1.0, description="factor of the logits")


class SupCon(_Loss):
    """Supervised contrastive: images of one class attract each other against all others of the batch."""

    kind: Literal["supcon"] = "supcon"
    temperature: Temperature = Field(default=0.1, description="divisor of the cosines; smaller is sharper")


Loss = Annotated[
    Softmax | NormalizedSoftmax | AMSoftmax | CosFace | ArcFace | LargeMarginSoftmax | SphereFace | SupCon,
    Field(discriminator="kind"),
    default_tag("kind", "am-softmax"),
]
