"""The `train` job."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.classes import ClassesSpec
from kinsight.specs.data import DataSpec
from kinsight.specs.losses import AMSoftmax, Loss, OverClasses, OverLabels, OverPairs
from kinsight.specs.model import ModelSpec
from kinsight.specs.optim import CosineSchedule, Optimizer, Schedule, Sgd, StepSchedule
from kinsight.specs.relations import WEIGH_POSITIVES, Relation, SameLabelSpec
from kinsight.specs.report import ReportSpec
from kinsight.specs.samplers import HierarchicalSampler, PerClassSampler, Sampler, ShuffleSampler
from kinsight.specs.tasks import DEFAULT_METRIC, EqualClasses, LongTail, Mix, NoMix, Task, check_task, with_defaults

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "cuda", "mps", "cpu"]


class HeadSpec(Spec):
    """Where the class weights live."""

    shard: Literal["none"] = Field(default="none", description="class weights are whole on every process")
    init_from: str | None = Field(
        default=None,
        description="snapshot (RUN/snapshots/N) whose class weights to start from; of another loss: an error; "
        "of other classes or shapes they are left out with a warning",
    )


class BatchSpec(Spec):
    """How many images make one optimizer step."""

    size: int = Field(default=64, ge=1, description="images per step over all processes")
    accumulate: int = Field(default=1, ge=1, description="pieces a step's images are computed in, to save memory")


class FreezeSpec(Spec):
    """Parts of the network that keep their first weights, for some steps or for good.

    Frozen parts keep their running statistics as well.
    """

    parts: list[Literal["backbone", "norms", "neck"]] = Field(
        default=[], description="norms: the backbone's batch normalisation, statistics included"
    )
    first_layers: int = Field(default=0, ge=0, description="layers of the backbone, from the pixels on")
    steps: int | None = Field(
        default=None, ge=1, description="steps until they thaw, fewer than the training has; null: never"
    )

    @model_validator(mode="after")
    def _something(self) -> "FreezeSpec":
        if not self.parts and not self.first_layers:
            raise ValueError("freeze: set freeze.parts or freeze.first_layers, or leave it out")
        if "backbone" in self.parts and (self.first_layers or "norms" in self.parts):
            raise ValueError("freeze.parts: backbone is all of it, so that norms and first_layers have no effect")
        return self


class EmaSpec(Spec):
    """Exponential moving average of the weights; validation and the bundle use the average."""

    decay: float = Field(default=0.999, gt=0, lt=1, description="share of the old average kept at each step")


class ValidateSpec(Spec):
    """When and by which number the best model is chosen."""

    every_epochs: int = Field(default=1, ge=1, description="epochs between validations")
    times: int | None = Field(
        default=None, ge=1, description="validations spread evenly over the training, instead of every_epochs"
    )
    every_steps: int | None = Field(
        default=None, ge=1, description="optimizer steps between validations, instead of every_epochs"
    )
    batch_size: int = Field(default=256, ge=1, description="images per forward pass in validation")
    images: int | None = Field(
        default=None, ge=1, description="validation images that are used, the first so many; null: all"
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="which model becomes the bundle: the best by validation, or the one at the end"
    )
    metric: str = Field(
        default="recall@1",
        description="metric: recall@k, precision@k, map@r, r_precision, map or mrr; classification: accuracy (its "
        "default), top5_accuracy or macro_recall; multilabel: map (its default), micro_map, or with labels said from a "
        "probability of 0.5 on cf1, of1 or exact_match",
        pattern=r"^(recall@[1-9][0-9]*|precision@[1-9][0-9]*|map@r|r_precision|map|mrr|accuracy|top5_accuracy"
        r"|macro_recall|micro_map|cf1|of1|exact_match)$",
    )
    write_thresholds: bool = Field(
        default=True,
        description="find decision thresholds (of a classifier temperature, and thresholds of labels) on the "
        "validation images and keep them in the bundle",
    )
    classes: ClassesSpec = Field(
        default=ClassesSpec(), description="what is told of a classifier at the end (classification, multilabel)"
    )


class EarlyStopSpec(Spec):
    """Stop when validation has not improved for a while."""

    patience: int = Field(default=10, ge=1, description="validations without improvement before stopping")


class CheckpointSpec(Spec):
    """How much work an interruption can cost."""

    every_epochs: int = Field(default=10, ge=1, description="epochs between checkpoints")
    every_minutes: float = Field(default=15.0, gt=0, description="minutes between checkpoints")
    every_steps: int | None = Field(default=None, ge=1, description="optimizer steps between checkpoints")
    keep: int = Field(default=3, ge=1, description="newest checkpoints kept")


class SnapshotSpec(Spec):
    """Models along the way, each usable on its own: as a bundle, with its class weights, and to go on from."""

    every_steps: int | None = Field(
        default=None, ge=1, description="optimizer steps between snapshots; null: only at the end"
    )
    path: str | None = Field(
        default=None,
        description="address of the folder that a folder is written into for each, named by its step; "
        "default: `snapshots` in the output",
    )


class TrainSpec(Spec):
    """Train an embedding model, or a classifier, from labelled images."""

    job: Literal["train"] = "train"
    output: str = Field(description="address of the run folder: checkpoints, metrics, the model bundle")
    task: Task = Field(
        default="metric",
        description="metric: embeddings judged by retrieval; classification: one class an image (default loss softmax, "
        "no neck); multilabel: any number of labels an image (default loss bce, no neck)",
    )
    data: DataSpec = Field(description="images, labels, decoding, augmentation")
    sampler: Sampler = Field(default=ShuffleSampler(), description="which images meet in a batch")
    model: ModelSpec = Field(default=ModelSpec(), description="backbone, pooling, neck, first weights")
    head: HeadSpec = Field(default=HeadSpec(), description="class weights")
    relation: Relation = Field(default=SameLabelSpec(), description="which images are alike, for losses over pairs")
    loss: Loss = Field(default=AMSoftmax(), description="what is minimised")
    extra_losses: list[Loss] = Field(default=[], description="further weighted loss terms, as YAML")
    long_tail: LongTail = Field(
        default=EqualClasses(), description="how rare classes count in the main loss; classification and multilabel"
    )
    mix: Mix = Field(default=NoMix(), description="images made of two; classification and multilabel")
    optimizer: Optimizer = Field(default=Sgd(), description="how weights move")
    schedule: Schedule = Field(default=CosineSchedule(), description="learning rate over time")
    batch: BatchSpec = Field(default=BatchSpec(), description="images per step")
    epochs: int | None = Field(
        default=None, ge=1, description="passes over the training images; 200 when neither it nor steps is set"
    )
    steps: int | None = Field(default=None, ge=1, description="optimizer steps, instead of epochs")
    seconds: float | None = Field(
        default=None,
        gt=0,
        description="training time, instead of epochs: without validation and checkpoints; schedules follow its share",
    )
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of the gradient")
    freeze: FreezeSpec | None = Field(default=None, description="parts of the network that are not trained, or later")
    ema: EmaSpec | None = Field(default=None, description="average the weights over steps")
    precision: Precision = Field(default="auto", description="auto: bf16 where the device is faster with it")
    device: Device = Field(default="auto", description="auto: CUDA, else MPS, else CPU")
    nproc: int | None = Field(
        default=None, ge=1, description="processes on this machine; default: one per GPU, one on a CPU"
    )
    sync_batchnorm: bool = Field(default=True, description="batch statistics over all processes")
    validate_: ValidateSpec = Field(default=ValidateSpec(), alias="validate", description="choice of the best epoch")
    early_stop: EarlyStopSpec | None = Field(default=None, description="stop when validation stands still")
    checkpoint: CheckpointSpec = Field(default=CheckpointSpec(), description="what an interruption can cost")
    snapshots: SnapshotSpec | None = Field(default=None, description="models along the way that are kept; null: none")
    resume_from: str | None = Field(
        default=None, description="snapshot or checkpoint of another run to go on from: weights, optimizer, step, order"
    )
    log_every_steps: int = Field(default=10, ge=1, description="optimizer steps that a logged row is the mean of")
    report: ReportSpec | None = Field(
        default=ReportSpec(), description="a page with curves and pictures, report/index.html; null: none"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of weights, order and augmentation")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_task(cls, given: Any) -> Any:
        return with_defaults(given)

    @field_validator("extra_losses")
    @classmethod
    def _no_nested_ce(cls, losses: list[Loss]) -> list[Loss]:
        for number, loss in enumerate(losses):
            if loss.ce is not None:
                raise ValueError(f"extra_losses[{number}].ce: the cross-entropy term is set once, under loss.ce")
        return losses

    def all_losses(self) -> dict[str, Loss]:
        """The losses by the names of their settings."""
        return {"loss": self.loss} | {f"extra_losses[{place}]": loss for place, loss in enumerate(self.extra_losses)}

    @model_validator(mode="after")
    def _settings_take_effect(self) -> "TrainSpec":
        limits = [name for name in ("epochs", "steps", "seconds") if getattr(self, name) is not None]
        if len(limits) > 1:
            raise ValueError(f"{' and '.join(limits)} are both set: give one of them")
        self._validates_as_told()
        if self.loss.weight != 1.0 and not self.extra_losses and self.loss.ce is None:
            raise ValueError(
                "loss.weight has no effect on a single term: set it with loss.ce or extra_losses, or leave it 1"
            )
        if self.data.validation is None:
            if self.early_stop is not None:
                raise ValueError("early_stop needs data.validation")
            if self.validate_ != ValidateSpec(metric=DEFAULT_METRIC[self.task]):
                raise ValueError("validate needs data.validation")
            if self.report is not None and self.report != ReportSpec():
                raise ValueError("report.map needs data.validation: it shows the validation images")
        if self.model.neck.kind == "cgd":
            if self.model.pooling != ModelSpec.model_fields["pooling"].default:
                raise ValueError("model.pooling has no effect with the cgd neck: set model.neck.branches")
            branches = len(self.model.neck.branches)
            if self.model.embedding_dim % branches:
                raise ValueError(
                    f"model.embedding_dim={self.model.embedding_dim} must divide by {branches}, the cgd branches"
                )
        check_task(self)
        self._starts_once()
        self._losses_fit()
        self._batch_divides()
        self._schedule_rises()
        return self

    def _validates_as_told(self) -> None:
        settings = self.validate_
        rhythms = [name for name in ("times", "every_steps") if getattr(settings, name) is not None]
        if settings.every_epochs != 1:
            rhythms.append("every_epochs")
        if len(rhythms) > 1:
            raise ValueError(f"{' and '.join(f'validate.{name}' for name in rhythms)} are both set: give one of them")
        if self.early_stop is not None and settings.keep == "last":
            raise ValueError("early_stop waits for a better model: validate.keep must be best")

    def _starts_once(self) -> None:
        if self.resume_from is not None:
            for name, value in (("model", self.model.init_from), ("head", self.head.init_from)):
                if value is not None:
                    raise ValueError(f"{name}.init_from has no effect with resume_from, which brings all weights")
        if self.head.init_from is not None and not isinstance(self.loss, OverClasses | OverLabels):
            raise ValueError(
                f"head.init_from has no effect with loss.kind={self.loss.kind}, which has no class weights"
            )

    def _losses_fit(self) -> None:
        losses = self.all_losses()
        if self.loss.kind == "vicreg":
            raise ValueError("loss.kind=vicreg reads no labels: add it under extra_losses to a loss that does")
        over_pairs = [loss for loss in losses.values() if isinstance(loss, OverPairs) and loss.kind != "vicreg"]
        relation = self.relation.kind
        if relation != "same-label" and not over_pairs and (relation != "shared-labels"):
            raise ValueError(f"relation.kind={relation} has no effect without a loss over pairs")
        if getattr(self.relation, "weighted", False) and not any(x.kind in WEIGH_POSITIVES for x in losses.values()):
            raise ValueError(
                f"relation.weighted has no effect on loss.kind={self.loss.kind}: leave it off, or choose one of "
                f"{', '.join(WEIGH_POSITIVES)}"
            )
        for name, loss in losses.items():
            if loss.kind == "npairs" and relation != "same-label":
                raise ValueError(f"{name}.kind=npairs takes two images of each class: relation.kind must be same-label")
            several = relation == "shared-labels" and isinstance(loss, OverClasses)
            if several and loss.kind != "proxy-anchor":
                raise ValueError(
                    f"{name}.kind={loss.kind} takes one class per image: with relation.kind=shared-labels choose a "
                    "loss over pairs, or proxy-anchor"
                )
            weighted = getattr(self.relation, "weighted", False) and isinstance(loss, OverPairs)
            if weighted and loss.kind not in (*WEIGH_POSITIVES, "vicreg"):
                raise ValueError(
                    f"relation.weighted has no effect on {name}.kind={loss.kind}: leave it off, or choose one of "
                    f"{', '.join(WEIGH_POSITIVES)}"
                )
            each = getattr(self.sampler, "samples_per_class", 2)
            if loss.kind == "npairs" and each != 2:
                raise ValueError(
                    f"{name}.kind=npairs uses two images of each class: set sampler.samples_per_class=2, not {each}"
                )
            miner = getattr(loss, "miner", None)
            if miner is not None and miner.kind == "consecutive" and self.sampler.kind != "triplets":
                raise ValueError(f"{name}.miner.kind=consecutive needs sampler.kind=triplets")
        if self.loss.ce is not None and relation == "shared-labels":
            raise ValueError("loss.ce takes one class per image, and relation.kind=shared-labels gives several")

    def _batch_divides(self) -> None:
        size, accumulate = self.batch.size, self.batch.accumulate
        if accumulate > size:
            raise ValueError(f"batch.accumulate={accumulate}: must be at most batch.size={size}")
        sampler = self.sampler
        if isinstance(sampler, PerClassSampler | HierarchicalSampler) and size % sampler.samples_per_class:
            raise ValueError(f"batch.size={size} must divide by sampler.samples_per_class={sampler.samples_per_class}")
        if isinstance(sampler, HierarchicalSampler) and size // sampler.samples_per_class < sampler.super_classes:
            raise ValueError(
                f"sampler.super_classes={sampler.super_classes}: a batch of {size} holds "
                f"{size // sampler.samples_per_class} classes of {sampler.samples_per_class} images"
            )
        if sampler.kind == "triplets" and size % 3:
            raise ValueError(f"batch.size={size} must divide by 3, since sampler.kind=triplets")

    def _schedule_rises(self) -> None:
        schedule = self.schedule
        if not isinstance(schedule, StepSchedule):
            return
        if list(schedule.at) != sorted(set(schedule.at)):
            raise ValueError(f"schedule.at={schedule.at}: must rise")
