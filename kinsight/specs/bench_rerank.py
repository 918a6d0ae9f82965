"""What `kinsight bench rerank` may be told."""

from typing import Literal

from pydantic import Field

from kinsight.specs.base import Spec


class BenchRerank(Spec):
    """k-reciprocal re-ranking against the published dense algorithm where that fits, and alone where it does not."""

    job: Literal["bench rerank"] = "bench rerank"
    both: list[int] = Field(default=[4000], description="numbers of vectors to measure both at")
    alone: list[int] = Field(default=[60_000], description="numbers of vectors to measure ours alone at")
    dim: int = Field(default=512, ge=2, description="vector length")
    per_class: int = Field(default=20, ge=2, description="vectors of a class")
    k1: int = Field(default=20, ge=1, description="neighbours that must be mutual")
    k2: int = Field(default=6, ge=1, description="items that an item's sets are averaged over")
    weight: float = Field(default=0.3, ge=0, lt=1, description="weight of the original distance")
    depth: int = Field(default=100, ge=2, description="first results that ours re-ranks")
    threads: list[int] = Field(default=[2], min_length=1, description="thread counts to measure at")
    repeats: int = Field(default=3, ge=1, description="measurements of each side, interleaved; alone: one")
    seed: int = Field(default=0, ge=0, description="seed of the vectors")
