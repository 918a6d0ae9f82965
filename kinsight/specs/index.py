"""The `index` jobs: build, add, delete, info."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag

_SEED = Field(default=0, ge=0, lt=2**31, description="seed of training and insertion")
_NULL = "null: chosen from the number and length of the vectors, and printed"


class FlatIndex(Spec):
    """Every vector is compared: exact, and quick up to some hundred thousand vectors."""

    kind: Literal["flat"] = "flat"


class HnswIndex(Spec):
    """A graph of near neighbours (Malkov and Yashunin 2018): the quickest search, full vectors in memory."""

    kind: Literal["hnsw"] = "hnsw"
    m: int | None = Field(default=None, ge=4, le=256, description=f"links of a vector to others; {_NULL}")
    ef_construction: int | None = Field(
        default=None, ge=8, le=4096, description=f"candidates looked at when a vector is put in; {_NULL}"
    )
    ef_search: int | None = Field(
        default=None, ge=1, le=65536, description=f"candidates looked at in a search, k at least; {_NULL}"
    )
    reproducible: bool = Field(
        default=True, description="put vectors in one by one, for the same graph each time; off: on all threads"
    )
    seed: int = _SEED


class _Lists(Spec):
    lists: int | None = Field(default=None, ge=1, le=2**20, description=f"cells the vectors are divided into; {_NULL}")
    nprobe: int | None = Field(default=None, ge=1, le=2**20, description=f"cells a search looks into; {_NULL}")
    train_vectors: int | None = Field(
        default=None, ge=1, description=f"vectors drawn to learn from; {_NULL.replace('vectors, and', 'lists, and')}"
    )
    seed: int = _SEED

    @model_validator(mode="after")
    def _probes_fit(self) -> "_Lists":
        if self.lists is not None and self.nprobe is not None and self.nprobe > self.lists:
            raise ValueError(f"index.nprobe={self.nprobe}: must be at most index.lists={self.lists}")
        if self.lists is not None and self.train_vectors is not None and self.train_vectors < self.lists:
            raise ValueError(f"index.train_vectors={self.train_vectors}: must be at least index.lists={self.lists}")
        return self


class IvfIndex(_Lists):
    """Cells around centres (k-means); a search looks into the nearest cells. Full vectors in memory."""

    kind: Literal["ivf"] = "ivf"


class IvfPqIndex(_Lists):
    """Cells with compressed vectors (product quantisation, Jegou et al. 2011): the least memory.

    What it finds is put into order by the full vectors, which stay on disk.
    """

    kind: Literal["ivf-pq"] = "ivf-pq"
    subvectors: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description=f"parts a vector is coded in; must divide its length; {_NULL}",
    )
    bits: int | None = Field(
        default=None, ge=4, le=12, description=f"bits of a part's code; needs 2^bits training vectors; {_NULL}"
    )
    refine: int = Field(
        default=20, ge=1, le=1000, description="candidates for each neighbour wanted that full vectors put into order"
    )


class CopiesSpec(Spec):
    """Vectors put into further lists, so that a search finds its neighbours in fewer of them."""

    rule: Literal["misses", "ratio", "probability", "soar", "air"] = Field(
        default="air",
        description="which vectors: by residuals opposed to the first (AIR) or at right angles to it (SOAR); by the "
        "ratio of distances (IVFast); by the router's probability; those that searches by their neighbours miss",
    )
    budget: float = Field(
        default=0.0,
        ge=0,
        le=5,
        description="further copies, of a vector on average; 0: none; of soar and air at most 1",
    )

    @model_validator(mode="after")
    def _possible(self) -> "CopiesSpec":
        if self.rule in ("soar", "air") and self.budget > 1:
            raise ValueError(
                f"copies.budget={self.budget:g}: {self.rule} gives each vector one further list; lower it to 1, or "
                "give copies.rule ratio"
            )
        return self

    @model_validator(mode="after")
    def _some(self) -> "CopiesSpec":
        if self.rule != CopiesSpec.model_fields["rule"].default and not self.budget:
            raise ValueError("copies.rule has no effect: copies.budget is 0")
        return self


class LearnedIndex(Spec):
    """Lists of a learned partition (`kinsight partition`): vectors by their principal components, compressed if wished,
    are looked through in the lists its router chooses, and the full vectors put into order what comes of it.
    """

    kind: Literal["learned"] = "learned"
    payload: Literal["flat", "fp16", "sq8", "pq", "fastscan", "rabitq"] = Field(
        default="sq8",
        description="what lists hold of a vector: 32 or 16 bits or one byte a number, product codes of 8 bits, of 4 "
        "bits that are looked through in registers, or a bit a number",
    )
    subvectors: int | None = Field(
        default=None, ge=1, le=4096, description=f"parts of a product code; must divide the routed length; {_NULL}"
    )
    copies: CopiesSpec = Field(default=CopiesSpec(), description="vectors in several lists")
    routing: Literal["flat", "graph"] = Field(
        default="flat",
        description="how a query's lists are chosen: by the scores of all, or through a graph over them, which misses "
        "a few; from some 2,000 lists on choosing takes a tenth of the multiply-adds. "
        "Searches among fewer than half of the items, or in more than a sixth of the lists, compare all",
    )
    recall: float | None = Field(
        default=None,
        ge=0.1,
        le=0.999,
        description="recall@10 that settings are sought for, on vectors the partition held out; null: 0.95, unless "
        "nprobe, mass or refine are given",
    )
    nprobe: int | None = Field(default=None, ge=1, le=2**22, description="lists a search looks into, at most")
    mass: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of its neighbours, by the router's account, at which a query looks into no further list; "
        "without nprobe it looks into a quarter of the lists at most",
    )
    refine: float | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="candidates for each neighbour wanted that full vectors put into order",
    )
    seed: int = _SEED

    @model_validator(mode="after")
    def _one_way(self) -> "LearnedIndex":
        if self.recall is not None and (self.nprobe or self.mass or self.refine):
            raise ValueError(f"index.recall={self.recall:g}: finds nprobe, mass and refine; give it or them")
        if self.routing == "graph" and self.mass is not None:
            raise ValueError(
                f"index.mass={self.mass:g}: needs the scores of all lists, which index.routing=graph does not reckon; "
                "give nprobe instead, or routing flat"
            )
        if self.subvectors is not None and self.payload not in ("pq", "fastscan"):
            raise ValueError(f"index.subvectors has no effect: payload {self.payload} has no product codes")
        return self


IndexKind = Annotated[
    FlatIndex | HnswIndex | IvfIndex | IvfPqIndex | LearnedIndex,
    Field(discriminator="kind"),
    default_tag("kind", "flat"),
]


class _OnIndex(Spec):
    index: str = Field(
        description="address of the index: a local folder, s3:// or oss://", json_schema_extra={"positional": True}
    )


class _FromEmbeddings(Spec):
    embeddings: str = Field(
        description="address of stored embeddings: what `kinsight embed` wrote, a folder that holds vectors.npy, or a "
        ".npy, .fvecs, .bvecs, .hdf5 (data set train) or .parquet file (column vector, and further ones)",
        json_schema_extra={"positional": True},
    )


class IndexBuild(_FromEmbeddings):
    """Build an index of stored embeddings, to be searched by `kinsight search` and `kinsight serve`."""

    job: Literal["index build"] = "index build"
    output: str = Field(description="address of the index's folder")
    index: IndexKind = Field(default=FlatIndex(), description="how vectors are found")
    partition: str | None = Field(
        default=None, description="address of a learned partition, for index kind learned, which it implies"
    )
    metric: Literal["cosine", "ip", "l2"] = Field(
        default="cosine", description="similarity: cosine, inner product, or negated squared distance"
    )
    id_column: str | None = Field(
        default=None, description="column of the items' ids, integers or strings, each its own; null: running numbers"
    )
    columns: list[str] | None = Field(
        default=None, description="further columns of the embeddings to keep; null: all of them"
    )

    @model_validator(mode="before")
    @classmethod
    def _implied_kind(cls, tree: Any) -> Any:
        """A partition says which kind is meant."""
        if isinstance(tree, dict) and tree.get("partition") is not None:
            index = tree.get("index", {})
            if isinstance(index, dict) and "kind" not in index:
                return tree | {"index": index | {"kind": "learned"}}
        return tree

    @model_validator(mode="after")
    def _partition_for_learned(self) -> "IndexBuild":
        if isinstance(self.index, LearnedIndex) and self.partition is None:
            raise ValueError(
                "index.kind=learned: needs a partition; learn one: kinsight partition VECTORS --output DIR"
            )
        if self.partition is not None and not isinstance(self.index, LearnedIndex):
            raise ValueError(f"partition={self.partition}: has no effect on index.kind={self.index.kind}")
        return self


class IndexAdd(_FromEmbeddings, _OnIndex):
    """Add stored embeddings of the same model to an index."""

    job: Literal["index add"] = "index add"
    on_duplicate: Literal["error", "replace", "skip"] = Field(
        default="error", description="what becomes of items whose id is in the index, or comes twice"
    )


class IndexDelete(_OnIndex):
    """Delete items from an index; searches leave them out from then on."""

    job: Literal["index delete"] = "index delete"
    ids: list[str] = Field(default=[], description="ids of the items", json_schema_extra={"positional": True})
    ids_file: str | None = Field(default=None, description="address of a text file with an id a line")
    missing: Literal["error", "ignore"] = Field(default="error", description="what becomes of ids that are not there")

    @model_validator(mode="after")
    def _some_ids(self) -> "IndexDelete":
        if bool(self.ids) == (self.ids_file is not None):
            raise ValueError("give the ids to delete, or ids_file")
        return self


class IndexInfo(_OnIndex):
    """Print what an index holds, and check its files."""

    job: Literal["index info"] = "index info"
