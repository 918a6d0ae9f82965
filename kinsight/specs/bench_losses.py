"""What `kinsight bench losses` may be told."""

from typing import Literal

from pydantic import Field

from kinsight.specs.base import Spec

BenchedLoss = Literal[
    "contrastive",
    "triplet",
    "triplet-hard",
    "triplet-semi-hard",
    "multi-similarity",
    "circle",
    "info-nce",
    "supcon",
    "fast-ap",
    "smooth-ap",
    "npairs",
    "recall-at-k",
    "sigmoid-pairs",
    "eml",
    "quadruplet",
    "vicreg",
]
_ALL: list[BenchedLoss] = list(BenchedLoss.__args__)


class BenchLosses(Spec):
    """Forward and backward passes of losses over pairs against pytorch-metric-learning: time, peak memory, values."""

    job: Literal["bench losses"] = "bench losses"
    losses: list[BenchedLoss] = Field(default=_ALL, min_length=1, description="which; some exist on our side alone")
    classes: list[int] = Field(default=[128, 1024], min_length=1, description="classes of a batch")
    per_class: int = Field(default=4, ge=2, description="images of each class")
    dim: int = Field(default=512, ge=2, description="embedding length")
    threads: list[int] = Field(default=[1, 2], min_length=1, description="thread counts to measure at")
    repeats: int = Field(default=5, ge=1, description="measurements of each side, interleaved")
    memory_gb: float = Field(default=12.0, gt=0, description="memory a side may take; beyond, it counts as not fitting")
    seconds: float = Field(
        default=60.0, gt=0, description="time after which a side is measured no more often; at least once it is"
    )
    seed: int = Field(default=0, ge=0, description="seed of the embeddings")
