"""What training minimises: one arm per loss, each with just the settings it uses."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import default_tag
from kinsight.specs.class_losses import (
    AdaFace,
    AMSoftmax,
    ArcFace,
    ArcMargin,
    CosFace,
    LargeMarginSoftmax,
    MagFace,
    NormalizedSoftmax,
    OverClasses,
    ProxyAnchor,
    ProxyNCA,
    Softmax,
    SoftTriple,
    SphereFace,
    SubCenterArcFace,
)
from kinsight.specs.label_losses import Asl, Bce, Focal, OverLabels, TwoWay
from kinsight.specs.loss_base import CrossEntropyTerm, LossBase, Scale, Temperature
from kinsight.specs.miners import AllPairs, MemorySpec, Miner

Gap = Annotated[float, Field(ge=0, le=4)]
Distance = Literal["euclidean", "squared-euclidean", "cosine"]


class WithMemory(LossBase):
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


class Eml(LossBase):
    """PaddlePaddle's ensemble loss, on embeddings that keep their lengths."""

    kind: Literal["eml"] = "eml"
    beta: float = Field(default=1e5, gt=0, le=1e30, description="factor of the exponentials")


class Quadruplet(LossBase):
    """Margin sample mining: the farthest positive pair of a batch against the nearest negative pair."""

    kind: Literal["quadruplet"] = "quadruplet"
    margin: Gap = Field(default=0.1, description="how much nearer, in squared distances of unit embeddings")


class NPairs(LossBase):
    """PaddlePaddle's n-pairs: two images of each class, embeddings keep their lengths."""

    kind: Literal["npairs"] = "npairs"
    reg_weight: float = Field(default=0.01, ge=0, le=100, description="of half the mean squared length")


class VICReg(LossBase):
    """Keeps dimensions from collapsing: each varies, no two together. Reads no labels; an extra loss."""

    kind: Literal["vicreg"] = "vicreg"
    variance_weight: float = Field(default=25.0, ge=0, le=1000, description="of what dimensions lack to deviation 1")
    covariance_weight: float = Field(default=1.0, ge=0, le=1000, description="of the squared covariances")

    @model_validator(mode="after")
    def _something(self) -> "VICReg":
        if self.variance_weight == self.covariance_weight == 0:
            raise ValueError("variance_weight=0, covariance_weight=0: expected at least one above 0")
        return self


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

Loss = Annotated[OverClasses | OverPairs | OverLabels, Field(discriminator="kind"), default_tag("kind", "am-softmax")]

__all__ = [
    "AMSoftmax",
    "AdaFace",
    "ArcFace",
    "ArcMargin",
    "Asl",
    "Bce",
    "Circle",
    "Contrastive",
    "CosFace",
    "CrossEntropyTerm",
    "Distance",
    "Eml",
    "FastAP",
    "Focal",
    "Gap",
    "InfoNCE",
    "LargeMarginSoftmax",
    "Loss",
    "LossBase",
    "MagFace",
    "MultiSimilarity",
    "NPairs",
    "NormalizedSoftmax",
    "OverClasses",
    "OverLabels",
    "OverPairs",
    "ProxyAnchor",
    "ProxyNCA",
    "Quadruplet",
    "RecallAtK",
    "SigmoidPairs",
    "SmoothAP",
    "SoftTriple",
    "Softmax",
    "SphereFace",
    "SubCenterArcFace",
    "SupCon",
    "Triplet",
    "TwoWay",
    "VICReg",
    "WithMemory",
    "WithMiner",
]
