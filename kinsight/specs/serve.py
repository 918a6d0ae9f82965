"""The `serve` job."""

from typing import Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.train import Device, Precision


class ServeSpec(Spec):
    """Answer searches over REST, and on a page to try them on."""

    job: Literal["serve"] = "serve"
    bundle: str = Field(description="address of a model bundle (or of a run that holds one)")
    index: str | None = Field(default=None, description="address of an index made with this bundle; null: embed only")
    mapped: bool = Field(
        default=False, description="leave the index's lists or graph on disk: for indexes larger than memory"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0: every network of this machine")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0: any free one")
    k: int = Field(default=12, ge=1, le=1000, description="neighbours in an answer that does not ask for a number")
    max_k: int = Field(default=1000, ge=1, description="neighbours that an answer may ask for")
    by: Literal["auto", "classes", "items"] = Field(
        default="auto",
        description="an answer's entries: one per class, ranked by its three nearest items together, or the nearest "
        "items themselves; auto: classes where labels repeat. `by` in a request's address chooses for that request",
    )
    prefer: str | None = Field(
        default=None,
        description="column of the index: classes whose items hold something there are preferred by prefer_by",
    )
    prefer_by: float = Field(
        default=0.05,
        gt=0,
        le=2,
        description="similarity that a preferred class is lifted by in ranking, and only there",
    )
    fmr: float | None = Field(
        default=None, gt=0, lt=1, description="accept at this measured false-match rate; null: the bundle's strictest"
    )
    threshold: float | None = Field(default=None, description="accept from this similarity on instead")
    max_upload_mb: float = Field(default=20.0, gt=0, le=1024, description="largest image file taken, in MB")
    max_upload_megapixels: float = Field(
        default=64.0, gt=0, le=178, description="most pixels of an image, in millions; a small file may hold many"
    )
    max_batch: int = Field(default=32, ge=1, le=4096, description="images of waiting requests embedded together")
    max_waiting: int = Field(default=256, ge=1, description="images that may wait; further requests are told to retry")
    max_decoding: int = Field(default=4, ge=1, le=256, description="images decoded at the same time; bounds memory")
    reload_seconds: float = Field(
        default=5.0, ge=0, description="how often to look for a newer version of the index; 0: never"
    )
    precision: Precision = Field(default="auto", description="auto: bf16 where the device is faster with it")
    device: Device = Field(default="auto", description="auto: CUDA, else MPS, else CPU")

    @model_validator(mode="after")
    def _consistent(self) -> "ServeSpec":
        if self.fmr is not None and self.threshold is not None:
            raise ValueError("fmr has no effect beside threshold: give one of them")
        searching = {
            "fmr",
            "threshold",
            "k",
            "max_k",
            "reload_seconds",
            "by",
            "prefer",
            "mapped",
        } & self.model_fields_set
        if self.index is None and searching:
            raise ValueError(f"{', '.join(sorted(searching))}: no effect without index, nothing is searched")
        if self.prefer is None and "prefer_by" in self.model_fields_set:
            raise ValueError("prefer_by has no effect without prefer")
        if self.prefer is not None and self.by == "items":
            raise ValueError("prefer has no effect with by=items: it ranks classes")
        if self.k > self.max_k:
            raise ValueError(f"k={self.k}: at most max_k={self.max_k}")
        return self
