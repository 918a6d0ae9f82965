"""What may improve a search after the vectors are there: other dimensions, moved vectors, re-ranking."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag


class _Fitted(Spec):
    dim: int | None = Field(
        default=None, ge=1, description="dimensions to keep, those with the most variance; null: all"
    )
    fit: str | None = Field(
        default=None,
        description="address of stored embeddings to fit on; default: the gallery (never the queries: "
        "leave-one-out needs an address)",
    )
    normalize: bool = Field(default=True, description="scale vectors to unit length before and after")


class Pca(_Fitted):
    """Principal components: centred, turned, and cut to the first of them."""

    kind: Literal["pca"] = "pca"


class Whitening(_Fitted):
    """Principal components divided by their standard deviation (Jegou & Chum 2012)."""

    kind: Literal["whiten"] = "whiten"
    shrinkage: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="draw the variances this far towards their mean first; s adds an epsilon of s / (1 - s) means",
    )


Projection = Annotated[Pca | Whitening, Field(discriminator="kind"), default_tag("kind", "pca")]


class AverageExpansion(Spec):
    """The mean of a vector and its nearest (Chum et al. 2007)."""

    kind: Literal["average"] = "average"
    k: int = Field(default=5, ge=1, le=1000, description="neighbours taken in, beside the vector itself")


class AlphaExpansion(Spec):
    """The mean of a vector and its nearest, each weighted by its cosine to the power alpha (Radenovic et al. 2018)."""

    kind: Literal["alpha"] = "alpha"
    k: int = Field(default=10, ge=1, le=1000, description="neighbours taken in, beside the vector itself")
    alpha: float = Field(default=3.0, gt=0, le=100, description="power of the cosine; negative cosines count 0")


Expansion = Annotated[AverageExpansion | AlphaExpansion, Field(discriminator="kind"), default_tag("kind", "alpha")]


class KReciprocal(Spec):
    """k-reciprocal re-ranking (Zhong et al. 2017)."""

    kind: Literal["k-reciprocal"] = Field(default="k-reciprocal", description="by shared mutual neighbours")
    k1: int = Field(default=20, ge=1, le=200, description="neighbours that must be mutual")
    k2: int = Field(
        default=6, ge=1, le=200, description="items, itself included, that an item's sets are averaged over"
    )
    weight: float = Field(default=0.3, ge=0, lt=1, description="weight of the original distance (the paper's lambda)")
    depth: int = Field(
        default=100, ge=2, le=1000, description="first results of each query that are re-ranked, at most"
    )

    @model_validator(mode="after")
    def _inner_is_smaller(self) -> "KReciprocal":
        if self.k2 > self.k1:
            raise ValueError(f"k2={self.k2}: must not be above k1={self.k1}")
        return self
