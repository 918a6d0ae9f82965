"""Losses with class weights: one arm per loss, each with just the settings it uses."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kinsight.specs.loss_base import CosineMargin, LossBase, Scale, Temperature

AngleMultiple = Annotated[int, Field(ge=1, le=8)]
Centres = Annotated[int, Field(ge=2, le=1000)]


class Softmax(LossBase):
    """Cross-entropy over a linear layer with bias; embeddings are not normalised."""

    kind: Literal["softmax"] = "softmax"
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of probability spread over all classes")


class NormalizedSoftmax(LossBase):
    """Cross-entropy over cosines divided by a temperature."""

    kind: Literal["normalized-softmax"] = "normalized-softmax"
    temperature: Temperature = Field(default=0.05, description="divisor of the cosines; smaller is sharper")


class AMSoftmax(LossBase):
    """Cosine of the own class lowered by a margin, then scaled."""

    kind: Literal["am-softmax"] = "am-softmax"
    margin: CosineMargin = Field(default=0.4, description="subtracted from the own class's cosine")
    scale: Scale = Field(default=30.0, description="factor of the cosines")


class CosFace(LossBase):
    """AM-Softmax with the settings usual for faces."""

    kind: Literal["cosface"] = "cosface"
    margin: CosineMargin = Field(default=0.35, description="subtracted from the own class's cosine")
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class ArcFace(LossBase):
    """Angle to the own class widened by a margin, then scaled."""

    kind: Literal["arcface"] = "arcface"
    margin_deg: float = Field(
        default=28.6, ge=0, le=90, description="added to the own class's angle, in degrees, not radians"
    )
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class LargeMarginSoftmax(LossBase):
    """Angle to the own class multiplied; embeddings and class weights keep their lengths."""

    kind: Literal["large-margin-softmax"] = "large-margin-softmax"
    margin: AngleMultiple = Field(default=4, description="multiple of the own class's angle, a whole number")
    scale: Scale = Field(default=1.0, description="factor of the logits")


class SphereFace(LossBase):
    """Angle to the own class multiplied; class weights are normalised, embeddings keep their lengths."""

    kind: Literal["sphereface"] = "sphereface"
    margin: AngleMultiple = Field(default=4, description="multiple of the own class's angle, a whole number")
    scale: Scale = Field(default=1.0, description="factor of the logits")


class ArcMargin(LossBase):
    """PaddlePaddle's arcmargin: angle to the own class widened by a margin, then scaled."""

    kind: Literal["arcmargin"] = "arcmargin"
    margin_rad: float = Field(
        default=0.15, ge=0, le=math.pi / 2, description="added to the own class's angle, in radians, not degrees"
    )
    scale: Scale = Field(default=80.0, description="factor of the cosines")
    easy_margin: bool = Field(default=False, description="margin only for own classes within 90 degrees")


class ProxyNCA(LossBase):
    """ProxyNCA++: cross-entropy over squared distances to one proxy a class."""

    kind: Literal["proxy-nca"] = "proxy-nca"
    temperature: Temperature = Field(default=1 / 9, description="divisor of the squared distances; smaller is sharper")


class ProxyAnchor(LossBase):
    """One proxy a class, which pulls and pushes the images of the batch; an image may have several classes."""

    kind: Literal["proxy-anchor"] = "proxy-anchor"
    margin: CosineMargin = Field(default=0.1, description="cosine by which images overshoot")
    alpha: Scale = Field(default=32.0, description="sharpness; larger looks at the hardest images alone")


class SoftTriple(LossBase):
    """Cross-entropy over several centres a class."""

    kind: Literal["soft-triple"] = "soft-triple"
    centres: Centres = Field(default=10, description="centres of each class")
    scale: Scale = Field(default=20.0, description="factor of the cosines, the paper's lambda")
    gamma: Temperature = Field(default=0.1, description="smaller looks at the nearest centre alone")
    margin: CosineMargin = Field(default=0.01, description="subtracted from the own class's cosine")
    tau: float = Field(default=0.2, ge=0, le=1000, description="weight of the pull of a class's centres together")


class SubCenterArcFace(LossBase):
    """ArcFace with several sub-centres a class, of which the nearest counts: for labels that are partly wrong."""

    kind: Literal["sub-center-arcface"] = "sub-center-arcface"
    centres: Centres = Field(default=3, description="sub-centres of each class")
    margin_deg: float = Field(
        default=28.6, ge=0, le=90, description="added to the own class's angle, in degrees, not radians"
    )
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class AdaFace(LossBase):
    """Margin by the embedding's length, relative to the lengths of a training so far."""

    kind: Literal["adaface"] = "adaface"
    margin: CosineMargin = Field(default=0.4, description="of angle (radians) and cosine, shared out by length")
    h: float = Field(default=0.333, gt=0, le=10, description="larger: fewer lengths count as middling")
    t_alpha: float = Field(default=0.01, gt=0, le=1, description="share of a batch in the running mean of lengths")
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class MagFace(LossBase):
    """The longer an embedding, the wider its margin; lengths grow with the quality of images."""

    kind: Literal["magface"] = "magface"
    l_a: float = Field(default=10.0, gt=0, le=1e6, description="length from which embeddings are told apart")
    u_a: float = Field(default=110.0, gt=0, le=1e6, description="length up to which they are")
    l_margin_rad: float = Field(default=0.45, ge=0, le=math.pi / 2, description="margin at l_a, in radians")
    u_margin_rad: float = Field(default=0.8, ge=0, le=math.pi / 2, description="margin at u_a, in radians")
    lambda_g: float = Field(default=35.0, ge=0, le=1e6, description="weight of the reward of long embeddings")
    scale: Scale = Field(default=64.0, description="factor of the cosines")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.l_a >= self.u_a:
            raise ValueError(f"l_a={self.l_a}: expected below u_a={self.u_a}")
        if self.l_margin_rad > self.u_margin_rad:
            raise ValueError(f"l_margin_rad={self.l_margin_rad}: expected at most u_margin_rad={self.u_margin_rad}")
        return self


OverClasses = (
    Softmax
    | NormalizedSoftmax
    | AMSoftmax
    | CosFace
    | ArcFace
    | LargeMarginSoftmax
    | SphereFace
    | ArcMargin
    | ProxyNCA
    | ProxyAnchor
    | SoftTriple
    | SubCenterArcFace
    | AdaFace
    | MagFace
)
"""Losses with class weights."""
