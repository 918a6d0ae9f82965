"""What `kinsight bench index` may be told."""

from typing import Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec

BenchedSet = Literal["fashion-mnist-784", "sift_caltech_100k", "mixture-1m", "cross-domain"]
BenchedSystem = Literal[
    "kinsight",
    "kinsight-flat",
    "faiss-ivf-flat",
    "faiss-ivf-hnsw",
    "faiss-ivf-fastscan",
    "faiss-hnsw",
    "hnswlib",
    "scann",
    "usearch",
]
_SETS: list[BenchedSet] = list(BenchedSet.__args__)
_SYSTEMS: list[BenchedSystem] = list(BenchedSystem.__args__)


class BenchIndex(Spec):
    """The learned index beside what one would install instead: queries a second, cost and entries scanned at a recall.

    Every system at its best setting, found on learn vectors.
    """

    job: Literal["bench index"] = "bench index"
    output: str = Field(
        description="local folder: sets, built indexes, settings found, measurements; what is there is not done again",
        json_schema_extra={"positional": True},
    )
    data: str | None = Field(
        default=None,
        description="folder with fashion-mnist-784-euclidean.npz (also the pictures of cross-domain) and "
        "sift_caltech_100k.npz",
    )
    sets: list[BenchedSet] = Field(default=_SETS, min_length=1, description="what to search in")
    systems: list[BenchedSystem] = Field(default=_SYSTEMS, min_length=1, description="what to search with")
    targets: list[float] = Field(default=[0.95, 0.99], min_length=1, description="recall@10 to reach")
    threads: list[int] = Field(default=[1, 2], min_length=1, description="thread counts to measure at")
    repeats: int = Field(default=5, ge=1, description="measurements of each system, interleaved")
    seeds: list[int] = Field(
        default=[0, 1, 2],
        min_length=1,
        description="seeds of what is learned and of k-means; tuned with the first, which large sets take alone",
    )
    tune_queries: int = Field(default=2000, ge=100, description="learn vectors to find settings on")
    max_rows: int | None = Field(
        default=None, ge=1000, description="vectors of a set and of what is made; null: all, mixture-1m a million"
    )
    max_queries: int = Field(default=10_000, ge=100, description="test queries, at most")
    effort: Literal["quick", "full"] = Field(
        default="full", description="how many ways of building each system are tried; quick: one or two"
    )
    again: Literal["nothing", "timing", "tuning"] = Field(
        default="nothing", description="what to do again though it is there: timing; or tuning and timing"
    )
    results: str | None = Field(default=None, description="address of a JSON file for the figures")

    @model_validator(mode="after")
    def _needs_data(self) -> "BenchIndex":
        reads = [name for name in self.sets if name != "mixture-1m"]
        if reads and self.data is None:
            raise ValueError(
                f"data: needed for the sets {', '.join(reads)}; name the folder, or leave them out of sets"
            )
        if not all(0.1 <= target < 1 for target in self.targets):
            raise ValueError("targets: must be from 0.1 to below 1")
        return self
