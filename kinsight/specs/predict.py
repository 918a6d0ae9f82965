"""The `predict` job."""

from typing import Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.train import Device, Precision


class PredictSpec(Spec):
    """Say what images show, by the classifier of a bundle: a line for each image."""

    job: Literal["predict"] = "predict"
    input: list[str] = Field(
        min_length=1,
        description="images: files, folders, lists of addresses (.txt, .lst, .csv, .parquet, .manifest), TFRecords",
        json_schema_extra={"positional": True},
    )
    image_column: str = Field(default="image", description="column of image paths in .csv and .parquet lists")
    bundle: str = Field(description="address of a model bundle (or of a run that holds one)")
    output: str = Field(description="address of the file: Parquet if it ends in .parquet, else a line for each image")
    lines: Literal["json", "address-json"] = Field(
        default="json",
        description='json: {"image": address, ...}; address-json: the address, a comma, and the answer as JSON',
    )
    answers: Literal["classes", "features", "both"] = Field(
        default="classes", description="what is told of an image: its classes, its embedding (`feature`), or both"
    )
    top_k: int | None = Field(
        default=None, ge=1, description="most probable classes that class_probs names; null: all classes"
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="probability from which on a label is predicted, for all labels (task multilabel); null: the "
        "bundle's own for each label, 0.5 where it has none",
    )
    batch_size: int = Field(default=256, ge=1, description="images per forward pass")
    workers: int = Field(default=4, ge=0, le=256, description="processes that read and decode images")
    unreachable: Literal["stop", "skip"] = Field(
        default="stop",
        description="addresses that do not answer, one after the other, on servers that did before or with no server "
        "answering at all: stop, so that the same command goes on there later, or skip them as lines with an error",
    )
    save_seconds: float = Field(default=30.0, gt=0, description="work that a kill may cost, in seconds")
    precision: Precision = Field(default="auto", description="auto: bf16 where the device is faster with it")
    device: Device = Field(default="auto", description="auto: CUDA, else MPS, else CPU")

    @model_validator(mode="after")
    def _settings_take_effect(self) -> "PredictSpec":
        if self.answers == "features":
            for name in ("top_k", "threshold"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect with answers=features, which names no classes")
        if self.output.lower().endswith(".parquet") and self.lines != "json":
            raise ValueError("lines has no effect on a .parquet output, which has columns")
        return self
