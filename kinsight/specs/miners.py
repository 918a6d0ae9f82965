"""Which pairs or triplets of a batch a loss over pairs looks at."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag


class AllPairs(Spec):
    """All of them."""

    kind: Literal["all"] = "all"


class HardMiner(Spec):
    """Each anchor's farthest positive and nearest negative."""

    kind: Literal["hard"] = "hard"


class SemiHardMiner(Spec):
    """For each positive pair the nearest negative that is farther than the positive."""

    kind: Literal["semi-hard"] = "semi-hard"


class DistanceWeightedMiner(Spec):
    """For each positive pair a negative drawn so that all distances come about equally often."""

    kind: Literal["distance-weighted"] = "distance-weighted"
    cutoff: float = Field(default=0.5, gt=0, lt=2, description="smaller distances of unit rows count as this one")
    farthest: float = Field(default=1.4, gt=0, le=2, description="negatives from this distance on are not drawn")

    @model_validator(mode="after")
    def _some_between(self) -> "DistanceWeightedMiner":
        if self.cutoff >= self.farthest:
            raise ValueError(f"cutoff={self.cutoff}: expected below farthest={self.farthest}")
        return self


class MultiSimilarityMiner(Spec):
    """Negatives nearer than the farthest positive, positives farther than the nearest negative."""

    kind: Literal["multi-similarity"] = "multi-similarity"
    epsilon: float = Field(default=0.1, ge=0, le=2, description="cosine by which both bounds are widened")


class AngularMiner(Spec):
    """For each positive pair the negative that sees it under the widest angle."""

    kind: Literal["angular"] = "angular"
    angle_deg: float = Field(default=20.0, ge=0, lt=90, description="least angle at the negative, in degrees")


class ConsecutiveMiner(Spec):
    """Rows 3i, 3i + 1, 3i + 2 are anchor, positive, negative: what the sampler `triplets` makes."""

    kind: Literal["consecutive"] = "consecutive"


Miner = Annotated[
    AllPairs
    | HardMiner
    | SemiHardMiner
    | DistanceWeightedMiner
    | MultiSimilarityMiner
    | AngularMiner
    | ConsecutiveMiner,
    Field(discriminator="kind"),
    default_tag("kind", "all"),
]


class MemorySpec(Spec):
    """Embeddings of earlier steps as further negatives and positives, without gradient (cross-batch memory)."""

    size: int = Field(default=8192, ge=1, description="embeddings kept, over all processes")
    warmup_steps: int = Field(default=1000, ge=0, description="steps before it is filled and used")
