"""The `evaluate` and `embed` jobs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.classes import ClassesSpec
from kinsight.specs.data import ImageSpec, Source
from kinsight.specs.model import AvgPool, FirstWeights, Pooling
from kinsight.specs.refine import Expansion, KReciprocal, Projection
from kinsight.specs.relations import Relation
from kinsight.specs.report import ReportSpec
from kinsight.specs.tasks import Task
from kinsight.specs.train import Device, Precision


class BackboneSpec(Spec):
    """A backbone as it is: no neck, no training of ours."""

    backbone: str = Field(description="any name `model.backbone` of a training takes")
    pretrained: FirstWeights | None = Field(
        default="default", description="`default` (published weights), null (random), or an address"
    )
    pooling: Pooling = Field(default=AvgPool(), description="from feature map to one vector")


class _FromImages(Spec):
    bundle: str | None = Field(default=None, description="address of a model bundle (or of a run that holds one)")
    model: BackboneSpec | None = Field(
        default=None, description="an untrained or pre-trained backbone instead of a bundle"
    )
    image: ImageSpec | None = Field(
        default=None, description="how images become tensors; only with `model`, a bundle knows"
    )
    batch_size: int = Field(default=256, ge=1, description="images per forward pass")
    workers: int = Field(default=4, ge=0, le=256, description="processes that read and decode images")
    max_broken: float = Field(default=0.01, ge=0, le=1, description="share of unreadable images that stops the run")
    precision: Precision = Field(default="auto", description="auto: bf16 where the device is faster with it")
    device: Device = Field(default="auto", description="auto: CUDA, else MPS, else CPU")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of random weights, pairs and resampling")

    @model_validator(mode="after")
    def _image_needs_model(self) -> "_FromImages":
        if self.image is not None and self.model is None:
            raise ValueError("image has no effect without model: a bundle knows how its images are prepared")
        return self


class EvaluateSpec(_FromImages):
    """Measure retrieval and verification of a bundle, a backbone or stored embeddings; of a classifier, its classes."""

    job: Literal["evaluate"] = "evaluate"
    output: str = Field(description="address of the folder for metrics.json, the per-class table and the pictures")
    task: Task | None = Field(
        default=None,
        description="what the model is judged as; null: what its bundle was trained for. metric: its vectors, by "
        "retrieval",
    )
    classes: ClassesSpec = Field(default=ClassesSpec(), description="how a classifier is judged")
    embeddings: str | None = Field(
        default=None, description="address of stored embeddings instead of a model and images"
    )
    data: Source | None = Field(default=None, description="labelled images; queries when `gallery` is set, else both")
    gallery: Source | None = Field(
        default=None, description="labelled images to search in; without: leave-one-out over `data`"
    )
    gallery_embeddings: str | None = Field(
        default=None, description="stored embeddings to search in, with `embeddings`"
    )
    relation: Relation | None = Field(
        default=None,
        description="which images are alike; null: as the bundle was trained, without a bundle by the same label",
    )
    metric: Literal["cosine", "l2", "ip"] = Field(default="cosine", description="similarity between embeddings")
    ks: list[int] = Field(default=[1, 2, 4, 8, 10, 100], min_length=1, description="the k of Recall@k and CMC")
    fprs: list[float] = Field(default=[1e-1, 1e-2, 1e-3, 1e-4], description="false-positive rates to report TPR at")
    max_pairs: int = Field(default=2_000_000, ge=1000, description="pairs of each sort drawn for verification")
    bootstrap: int = Field(
        default=1000,
        ge=0,
        description="resamples for confidence intervals over classes, of a classifier over images; 0: none",
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="coverage of the intervals")
    save_embeddings: bool = Field(default=False, description="also store the embeddings under `output`")
    report: ReportSpec | None = Field(
        default=ReportSpec(), description="a page with pictures, report/index.html; null: none"
    )
    write_thresholds: bool = Field(
        default=True,
        description="with a bundle: put the similarity thresholds at the rates of `fprs` into it, for searches; of a "
        "classifier temperature and label thresholds, if it has none",
    )
    replace_thresholds: bool = Field(
        default=False,
        description="of a classifier: also where the bundle has temperature and thresholds. Measured on the "
        "images that they were chosen by, it looks better than it is",
    )
    sizes: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], description="also measure with only the first so many dimensions, as for Matryoshka models"
    )
    projection: Projection | None = Field(
        default=None, description="also measure after principal components or whitening; null: no"
    )
    gallery_expansion: Expansion | None = Field(
        default=None,
        description="also measure with each gallery vector moved towards its nearest (database augmentation); null: no",
    )
    query_expansion: Expansion | None = Field(
        default=None, description="also measure with each query moved towards its nearest; null: no"
    )
    rerank: KReciprocal | None = Field(
        default=None,
        description="also measure with the first results ordered by the neighbours shared with the query; null: no",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "EvaluateSpec":
        if getattr(self.relation, "weighted", False):
            raise ValueError("relation.weighted has no effect here: it is for losses")
        given = [name for name in ("bundle", "model", "embeddings") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of bundle, model, embeddings; got {', '.join(given) or 'none'}")
        if self.embeddings is None:
            if self.data is None:
                raise ValueError("data.path is needed: the labelled images to evaluate on")
            if self.gallery_embeddings is not None:
                raise ValueError("gallery_embeddings goes with embeddings; set gallery instead")
        elif self.data is not None or self.gallery is not None:
            raise ValueError("data and gallery have no effect with embeddings, which carry their labels")
        elif self.save_embeddings:
            raise ValueError("save_embeddings has no effect with embeddings, which are stored already")
        if self.bundle is None and self.write_thresholds and "write_thresholds" in self.model_fields_set:
            raise ValueError("write_thresholds has no effect without a bundle to write them into")
        if self.replace_thresholds and not self.write_thresholds:
            raise ValueError("replace_thresholds has no effect with write_thresholds=false")
        if any(k < 1 for k in self.ks):
            raise ValueError(f"ks={self.ks}: every k must be at least 1")
        if any(not 0 < rate < 1 for rate in self.fprs):
            raise ValueError(f"fprs={self.fprs}: every rate must be between 0 and 1")
        self._check_improvements()
        return self

    @property
    def improvements(self) -> dict[str, Spec]:
        """What changes a search, by name and in order; empty by default. `sizes` come after `projection`."""
        names = ("projection", "gallery_expansion", "query_expansion", "rerank")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _check_improvements(self) -> None:
        for name in ("gallery_expansion", "query_expansion"):
            if getattr(self, name) is not None and self.metric != "cosine":
                raise ValueError(f"{name} needs metric=cosine: it adds up directions")
        if self.rerank is not None and self.metric == "ip":
            raise ValueError("rerank needs a distance, metric=cosine or l2: an inner product is none")
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes={self.sizes}: holds a number twice")
        kept = self.projection.dim if self.projection is not None else None
        if kept is not None and any(size > kept for size in self.sizes):
            raise ValueError(f"sizes={self.sizes}: projection.dim keeps {kept} dimensions only")
        leave_one_out = self.gallery is None and self.gallery_embeddings is None
        if self.projection is not None and self.projection.fit is None and leave_one_out:
            raise ValueError(
                "projection.fit is needed in leave-one-out: stored embeddings to fit on, such as the training images', "
                "for the queries are the gallery"
            )


class EmbedSpec(_FromImages):
    """Turn images into vectors."""

    job: Literal["embed"] = "embed"
    output: str = Field(description="address of the folder for the embeddings")
    data: Source = Field(description="images; labels, where the source has them, are kept")
    format: Literal["parquet", "npy"] = Field(
        default="parquet", description="parquet (ids, labels, addresses, vectors) or npy"
    )
    normalize: bool = Field(default=True, description="scale vectors to unit length")

    @model_validator(mode="after")
    def _one_origin(self) -> "EmbedSpec":
        if (self.bundle is None) == (self.model is None):
            raise ValueError("give one of bundle and model")
        return self
