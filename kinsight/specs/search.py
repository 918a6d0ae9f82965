"""The `search` job."""

from typing import Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.train import Device, Precision

_OF_IMAGES = ("batch_size", "workers", "max_broken", "precision", "device")


class SearchSpec(Spec):
    """Find the nearest items of an index: of images, of vectors, or of items of the index itself."""

    job: Literal["search"] = "search"
    index: str = Field(
        description="address of the index: a local folder, s3:// or oss://", json_schema_extra={"positional": True}
    )
    images: list[str] = Field(
        default=[],
        description="images to search with: files, folders, or lists of images (.txt, .lst, .csv); needs bundle",
        json_schema_extra={"positional": True},
    )
    vectors: str | None = Field(
        default=None,
        description="stored embeddings to search with instead: their folder, or a file as `index build` takes it "
        "(.hdf5: data set test)",
    )
    ids: list[str] = Field(
        default=[], description="ids of items of the index to search with instead; none finds itself"
    )
    bundle: str | None = Field(
        default=None, description="model bundle (or run) that made the index: embeds the images, holds the thresholds"
    )
    k: int = Field(default=10, ge=1, le=1_000_000, description="neighbours of each query")
    recall: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="of a learned index, search with the cheapest settings known to reach this recall@10; null: those "
        "it was built with",
    )
    where: list[str] = Field(
        default=[],
        description="find only items with this value in a column: column=value; several of a column are alternatives",
    )
    mapped: bool = Field(default=False, description="leave lists or graph on disk: for indexes larger than memory")
    threshold: float | None = Field(default=None, description="similarity from which on a neighbour is accepted")
    fmr: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="accept at the bundle's threshold for this false-match rate; null: its strictest, if it has any",
    )
    format: Literal["table", "jsonl", "parquet", "page"] = Field(
        default="table", description="table on the terminal, JSON lines, a Parquet file, or a page with pictures"
    )
    output: str | None = Field(default=None, description="address of the file to write; jsonl without it: the terminal")
    page_queries: int = Field(default=100, ge=1, le=10_000, description="queries that a page shows, the first ones")
    batch_size: int = Field(default=64, ge=1, description="images per forward pass")
    workers: int = Field(default=0, ge=0, le=256, description="processes that read and decode images; 0: none besides")
    max_broken: float = Field(default=1.0, ge=0, le=1, description="share of unreadable images that stops the search")
    precision: Precision = Field(default="auto", description="auto: bf16 where the device is faster with it")
    device: Device = Field(default="auto", description="auto: CUDA, else MPS, else CPU")

    @model_validator(mode="after")
    def _one_sort_of_queries(self) -> "SearchSpec":
        given = [name for name in ("images", "vectors", "ids") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of images, vectors, ids; got {' and '.join(given) or 'none'}")
        if self.images and self.bundle is None:
            raise ValueError("bundle is needed: the model that turns the images into vectors")
        idle = [name for name in _OF_IMAGES if name in self.model_fields_set] if not self.images else []
        if idle:
            raise ValueError(f"{', '.join(idle)} have no effect without images to embed")
        return self

    @model_validator(mode="after")
    def _thresholds_have_effect(self) -> "SearchSpec":
        if self.threshold is not None and self.fmr is not None:
            raise ValueError("fmr has no effect beside threshold: give one of them")
        if self.fmr is not None and self.bundle is None:
            raise ValueError("bundle is needed for fmr: it holds the thresholds")
        return self

    @model_validator(mode="after")
    def _output_fits(self) -> "SearchSpec":
        if self.format in ("parquet", "page") and self.output is None:
            raise ValueError(f"output is needed with format {self.format}: the file to write")
        if self.format == "table" and self.output is not None:
            raise ValueError("output has no effect with format table; use jsonl, parquet or page")
        if self.format != "page" and "page_queries" in self.model_fields_set:
            raise ValueError("page_queries has no effect without format page")
        return self
