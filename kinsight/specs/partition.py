"""The `partition` job: learn from vectors how to spread them over lists, and which lists a query should look into."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag


def _refuse_idle(spec: Spec, names: tuple[str, ...], group: str, why: str) -> None:
    """Raise ValueError for a setting that was changed though it takes no effect."""
    for name in names:
        if (value := getattr(spec, name)) != type(spec).model_fields[name].default:
            shown = f"{group}.{name}" if group else name
            raise ValueError(f"{shown}={value}: has no effect: {why}")


class ClusterSpec(Spec):
    """The lists before anything is learned: k-means, also the baseline that is reported."""

    iterations: int = Field(default=15, ge=1, le=1000, description="rounds of k-means")
    per_list: int = Field(default=128, ge=1, description="vectors drawn for each list; all where there are fewer")
    balance_rounds: int = Field(
        default=10, ge=0, le=1000, description="rounds in which full lists become dearer; 0: k-means as it is"
    )
    balance_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="price of a list in a round, in mean squared distances per log of its size",
    )

    @model_validator(mode="after")
    def _rate_counts(self) -> "ClusterSpec":
        if not self.balance_rounds:
            _refuse_idle(self, ("balance_rate",), "cluster", "cluster.balance_rounds=0 balances nothing")
        return self


class TargetSpec(Spec):
    """What the router learns: in which lists a vector's nearest neighbours are."""

    neighbors: int = Field(default=10, ge=1, le=1000, description="nearest neighbours that make up a soft target")
    sample: int = Field(
        default=100_000, ge=1, description="learn vectors whose neighbours are found; all where there are fewer"
    )


class LinearRouter(Spec):
    """One product and one bias for each list: what a search costs with k-means."""

    kind: Literal["linear"] = "linear"


class MlpRouter(Spec):
    """A network added to the linear router; it begins at nothing."""

    kind: Literal["mlp"] = "mlp"
    hidden: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default=[512], min_length=1, max_length=8, description="widths of the layers between vector and lists"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of a layer that is left out in a training step")


Router = Annotated[LinearRouter | MlpRouter, Field(discriminator="kind"), default_tag("kind", "linear")]


class FitSpec(Spec):
    """How the router is trained."""

    epochs: int = Field(default=10, ge=0, le=10_000, description="passes over the sample; 0: the lists' centres route")
    warmup_epochs: float = Field(default=1.0, ge=0, description="epochs in which the rate rises; a part of `epochs`")
    batch_size: int = Field(default=1024, ge=1, description="vectors of a step")
    lr: float | None = Field(
        default=None, gt=0, le=1e30, description="highest learning rate; null: in proportion to the centres' lengths"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(default="auto", description="arithmetic of the products")

    @model_validator(mode="after")
    def _epochs_count(self) -> "FitSpec":
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"fit.warmup_epochs={self.warmup_epochs:g}: must be below fit.epochs={self.epochs}")
        if not self.epochs:
            idle = ("warmup_epochs", "batch_size", "lr", "precision")
            _refuse_idle(self, idle, "fit", "fit.epochs=0 trains nothing")
        return self


class PartitionSpec(Spec):
    """Learn how to spread vectors over lists such that a search finds neighbours in few of them."""

    job: Literal["partition"] = "partition"
    vectors: str = Field(
        description="address of the vectors to learn from: what `kinsight embed` wrote, a folder with vectors.npy, or "
        "a .npy, .fvecs, .bvecs, .hdf5 (data set train) or .parquet file (column vector)",
        json_schema_extra={"positional": True},
    )
    output: str = Field(description="address of the folder for the partition")
    metric: Literal["cosine", "ip", "l2"] = Field(
        default="cosine", description="similarity: cosine, inner product, or negated squared distance"
    )
    lists: int | None = Field(
        default=None, ge=2, le=2**22, description="number of lists; null: chosen from the number of vectors"
    )
    components: int | None = Field(
        default=None,
        ge=1,
        description="dimensions the lists are found in: principal components, and last the length of what these leave "
        "out; null: all of the vectors'",
    )
    queries: str | None = Field(
        default=None,
        description="address of queries of the past, in the form of `vectors`: the router learns to route such",
    )
    cluster: ClusterSpec = Field(default=ClusterSpec(), description="the lists to begin with")
    targets: TargetSpec = Field(default=TargetSpec(), description="what the router learns")
    router: Router = Field(default=LinearRouter(), description="what chooses the lists of a query")
    fit: FitSpec = Field(default=FitSpec(), description="training of the router")
    held_out: int | None = Field(
        default=None,
        ge=100,
        description="learn vectors, or queries, kept out of it all to measure and tune with; null: a tenth, 10,000 at "
        "most",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of samples, centres and order")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="where to compute")

    @model_validator(mode="after")
    def _network_learns(self) -> "PartitionSpec":
        if isinstance(self.router, MlpRouter) and not self.fit.epochs:
            raise ValueError(
                "router.kind=mlp: has no effect: fit.epochs=0 trains nothing, and an untrained network adds nothing"
            )
        return self


class PartitionEvaluateSpec(Spec):
    """Measure a partition on vectors and queries of your own, beside k-means, with and without copies."""

    job: Literal["partition evaluate"] = "partition evaluate"
    partition: str = Field(description="address of the partition", json_schema_extra={"positional": True})
    base: str = Field(description="address of the vectors that are searched, in the forms `kinsight partition` takes")
    queries: str = Field(description="address of the queries, in the same forms; of an .hdf5 file the data set `test`")
    truth: str | None = Field(
        default=None,
        description="address of rows of the base for each query, -1 for none: .npy, .ivecs, or the data set "
        "`neighbors` of an .hdf5 file; null: the nearest 100 are found",
    )
    identity: bool = Field(
        default=False,
        description="rows of `truth` are those of the query's object, in no order, and not its nearest ones",
    )
    copies: list[Literal["misses", "ratio", "probability", "soar", "air"]] = Field(
        default=["air"],
        min_length=1,
        description="rules by which vectors are put into further lists, as `copies.rule` of an index",
    )
    budgets: list[Annotated[float, Field(ge=0, le=5)]] = Field(
        default=[0.0, 0.5, 1.0],
        min_length=1,
        description="further copies, of a vector on average; each with each rule; of soar and air at most 1",
    )
    probes: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None, description="numbers of lists to look into; null: some from 1 to 256"
    )
    vectors: str | None = Field(
        default=None,
        description="address of the vectors that k-means with more lists learns from; null: those of the partition",
    )
    sample: int = Field(
        default=100_000, ge=1, description="vectors of the base whose neighbours the rule `misses` looks at"
    )
    output: str | None = Field(default=None, description="address of a folder; null: `evaluation` in the partition")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of k-means with more lists, and of samples")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="where to compute")

    @model_validator(mode="after")
    def _identity_is_given(self) -> "PartitionEvaluateSpec":
        if self.identity and self.truth is None:
            raise ValueError("identity: truth is needed; which rows are of one object cannot be computed")
        return self

    @model_validator(mode="after")
    def _copies_are_made(self) -> "PartitionEvaluateSpec":
        if not max(self.budgets):
            why = "budgets=[0] makes no copies, and needs no k-means with more lists"
            _refuse_idle(self, ("copies", "vectors", "sample"), "", why)
        if "misses" not in self.copies:
            _refuse_idle(self, ("sample",), "", "only the rule misses looks at neighbours")
        for rule in ("soar", "air"):
            if rule in self.copies and max(self.budgets) > 1:
                raise ValueError(
                    f"budgets={max(self.budgets):g}: {rule} gives each vector one further list; lower it to 1, or give "
                    "copies ratio"
                )
        return self
