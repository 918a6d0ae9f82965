"""What training minimises: one arm per loss, each with just the settings it uses."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag
from kinsight.specs.miners import AllPairs, MemorySpec, Miner

Temperature = Annotated[float, Field(gt=0, le=10)]
Scale = Annotated[float, Field(gt=0, le=1000)]
CosineMargin = Annotated[float, Field(ge=0, le=1)]
Gap = Annotated[float, Field(ge=0, le=4)]
Distance = Literal["euclidean", "squared-euclidean", "cosine"]
Centres = Annotated[int, Field(ge=2, le=1000)]
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


class ArcMargin(_Loss):
    """PaddlePaddle's arcmargin: angle to the own class widened by a margin, then scaled."""

    kind: Literal["arcmargin"] = "arcmargin"
    margin_rad: float = Field(
        default=0.15, ge=0, le=math.pi / 2, description="added to the own class's angle, in radians, not degrees"
    )
    scale: Scale = Field(default=80.0, description="factor of the cosines")
    easy_margin: bool = Field(default=False, description="margin only for own classes within 90 degrees")


class ProxyNCA(_Loss):
    """ProxyNCA++: cross-entropy over squared distances to one proxy a class."""

    kind: Literal["proxy-nca"] = "proxy-nca"
    temperature: Temperature = Field(default=1 / 9, description="divisor of the squared distances; smaller is sharper")


class ProxyAnchor(_Loss):
    """One proxy a class, which pulls and pushes the images of the batch; an image may have several classes."""

    kind: Literal["proxy-anchor"] = "proxy-anchor"
    margin: CosineMargin = Field(default=0.1, description="cosine by which images overshoot")
    alpha: Scale = Field(default=32.0, description="sharpness; larger looks at the hardest images alone")


class SoftTriple(_Loss):
    """Cross-entropy over several centres a class."""

    kind: Literal["soft-triple"] = "soft-triple"
    centres: Centres = Field(default=10, description="centres of each class")
    scale: Scale = Field(default=20.0, description="factor of the cosines, the paper's lambda")
    gamma: Temperature = Field(default=0.1, description="smaller looks at the nearest centre alone")
    margin: CosineMargin = Field(default=0.01, description="subtracted from the own class's cosine")
    tau: float = Field(default=0.2, ge=0, le=1000, description="weight of the pull of a class's centres together")


class SubCenterArcFace(_Loss):
    """ArcFace with several sub-centres a class, of which the nearest counts: for labels that are partly wrong."""

    kind: Literal["sub-center-arcface"] = "sub-center-arcface"
    centres: Centres = Field(default=3, description="sub-centres of each class")
    margin_deg: float = Field(
        default=28.6, ge=0, le=90, description="added to the own class's angle, in degrees, not radians"
    )
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class AdaFace(_Loss):
    """Margin by the embedding's length, relative to the lengths of a training so far."""

    kind: Literal["adaface"] = "adaface"
    margin: CosineMargin = Field(default=0.4, description="of angle (radians) and cosine, shared out by length")
    h: float = Field(default=0.333, gt=0, le=10, description="larger: fewer lengths count as middling")
    t_alpha: float = Field(default=0.01, gt=0, le=1, description="share of a batch in the running mean of lengths")
    scale: Scale = Field(default=64.0, description="factor of the cosines")


class MagFace(_Loss):
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


class WithMemory(_Loss):
    memory: MemorySpec | None = Field(default=None, description="compare with embeddings of earlier steps, too")


class WithMiner(WithMemory):
    miner: Miner = Field(default=AllPairs(), description="which pairs of the batch count")


class Contrastive(WithMiner):
    """Positives below one distance, negatives beyond another."""

    kind: Literal["contrastive"] = "contrastive"
    positive_margin: Gap = Field(default=0.0, description="distance up to which positives cost nothing")
    margin: Gap = Field(default=1.0, description="distance from which negatives cost nothing")
    distance: Distance = Field(default="euclidean", description="of unit embeddings")


class Triplet(WithMiner):
    """Every positive nearer than every negative, by a margin."""

    kind: Literal["triplet"] = "triplet"
    margin: Gap = Field(default=0.2, description="how much nearer, in the chosen distance")
    distance: Distance = Field(default="squared-euclidean", description="of unit embeddings")
    mean_over: Literal["active", "all"] = Field(default="active", description="triplets in the mean")


class MultiSimilarity(WithMiner):
    """Soft thresholds on the cosines of positives and negatives."""

    kind: Literal["multi-similarity"] = "multi-similarity"
    alpha: Scale = Field(default=2.0, description="sharpness at the positives")
    beta: Scale = Field(default=50.0, description="sharpness at the negatives")
    base: float = Field(default=0.5, ge=-1, le=1, description="cosine that divides positives from negatives")


class Circle(WithMiner):
    """Cosines weighed by how far they are from where they should be."""

    kind: Literal["circle"] = "circle"
    margin: float = Field(default=0.4, gt=-1, lt=1, description="positives above 1 - margin, negatives below margin")
    scale: Scale = Field(default=80.0, description="factor of the weighed cosines")


class InfoNCE(WithMiner):
    """N-pair: each positive pair against all negatives of its anchor."""

    kind: Literal["info-nce"] = "info-nce"
    temperature: Temperature = Field(default=0.07, description="divisor of the cosines; smaller is sharper")


class SupCon(WithMiner):
    """Supervised contrastive: images of one class attract each other against all others of the batch."""

    kind: Literal["supcon"] = "supcon"
    temperature: Temperature = Field(default=0.1, description="divisor of the cosines; smaller is sharper")


class SigmoidPairs(WithMiner):
    """Each pair classified on its own, as SigLIP does; scale and bias are learned."""

    kind: Literal["sigmoid-pairs"] = "sigmoid-pairs"
    scale: Scale = Field(default=10.0, description="first factor of the cosines")
    bias: float = Field(default=-10.0, ge=-100, le=100, description="first number added to them")


class SmoothAP(WithMemory):
    """Average precision with smooth ranks."""

    kind: Literal["smooth-ap"] = "smooth-ap"
    temperature: Temperature = Field(default=0.01, description="of the ranks; smaller is nearer to the true ones")


class RecallAtK(WithMemory):
    """Recall@k with smooth ranks, averaged over several k."""

    kind: Literal["recall-at-k"] = "recall-at-k"
    ks: list[Annotated[int, Field(ge=1)]] = Field(
        default=[1, 2, 4, 8, 16], min_length=1, description="numbers of neighbours looked at"
    )
    temperature: Temperature = Field(default=0.01, description="of the ranks; smaller is nearer to the true ones")
    k_temperature: Temperature = Field(default=1.0, description="of the bound at k, in ranks")


class FastAP(WithMemory):
    """Average precision from histograms of distances."""

    kind: Literal["fast-ap"] = "fast-ap"
    bins: int = Field(default=10, ge=2, le=200, description="bins of the squared distances 0 to 4")


class Eml(_Loss):
    """PaddlePaddle's ensemble loss, on embeddings that keep their lengths."""

    kind: Literal["eml"] = "eml"
    beta: float = Field(default=1e5, gt=0, le=1e30, description="factor of the exponentials")


class Quadruplet(_Loss):
    """Margin sample mining: the farthest positive pair of a batch against the nearest negative pair."""

    kind: Literal["quadruplet"] = "quadruplet"
    margin: Gap = Field(default=0.1, description="how much nearer, in squared distances of unit embeddings")


class NPairs(_Loss):
    """PaddlePaddle's n-pairs: two images of each class, embeddings keep their lengths."""

    kind: Literal["npairs"] = "npairs"
    reg_weight: float = Field(default=0.01, ge=0, le=100, description="of half the mean squared length")


class VICReg(_Loss):
    """Keeps dimensions from collapsing: each varies, no two together. Reads no labels; an extra loss."""

    kind: Literal["vicreg"] = "vicreg"
    variance_weight: float = Field(default=25.0, ge=0, le=1000, description="of what dimensions lack to deviation 1")
    covariance_weight: float = Field(default=1.0, ge=0, le=1000, description="of the squared covariances")


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

OverPairs = (
    Contrastive
    | Triplet
    | MultiSimilarity
    | Circle
    | InfoNCE
    | SupCon
    | SigmoidPairs
    | SmoothAP
    | RecallAtK
    | FastAP
    | Eml
    | Quadruplet
    | NPairs
    | VICReg
)
"""Losses that compare the embeddings of a batch."""

Loss = Annotated[OverClasses | OverPairs, Field(discriminator="kind"), default_tag("kind", "am-softmax")]
