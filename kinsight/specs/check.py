"""The `data check` job."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.data import Source
from kinsight.specs.train import Device, Precision

Finding = Literal[
    "missing",
    "broken",
    "tiny",
    "huge",
    "blank",
    "aspect",
    "deep",
    "cmyk",
    "rotated",
    "animated",
    "transparent",
    "suffix",
    "unlabelled",
    "singletons",
    "repeats",
    "duplicates",
    "conflicts",
    "leaks",
    "mislabelled",
]
FINDINGS: tuple[Finding, ...] = get_args(Finding)
Drop = Literal["unusable", Finding]
UNUSABLE: tuple[Finding, ...] = ("missing", "broken", "unlabelled")  # what a training cannot learn from


class CheckSpec(Spec):
    """Read every image of a data set and report what is wrong with it."""

    job: Literal["data check"] = "data check"
    data: Source = Field(description="images and labels to check: those to train on")
    validation: Source | None = Field(
        default=None, description="images kept apart from `data`; copies of one in the other are leaks"
    )
    bundle: str | None = Field(
        default=None, description="address of a trained model's bundle; its neighbours show wrong labels"
    )
    output: str = Field(description="address of the folder for check.json, findings.csv and report/index.html")
    near: bool = Field(
        default=True, description="also find copies that were encoded anew, resized, brightened or cropped"
    )
    tiny: int = Field(default=16, ge=1, description="images with a shorter side below this are tiny, in pixels")
    huge: float = Field(default=50.0, gt=0, description="images with more than this are huge, in million pixels")
    aspect: float = Field(default=5.0, ge=1, description="images longer than this times their width are reported")
    mislabelled: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="how much nearer, as a share of the distance, images of other labels are than those of its own",
    )
    cleaned: str | None = Field(
        default=None, description="address of the cleaned list of `data` to write: .csv, else an image list"
    )
    drop: list[Drop] = Field(
        default=["unusable"],
        description="findings whose images the cleaned list leaves out; unusable: missing, broken and unlabelled",
    )
    fail_on: list[Finding] = Field(default=[], description="findings that end the command with exit code 3")
    pictures: int = Field(default=40, ge=1, le=1000, description="most pictures or groups shown for each finding")
    workers: int = Field(default=4, ge=0, le=256, description="processes that read images; 0: none beside this one")
    batch_size: int = Field(default=256, ge=1, description="images per forward pass, with `bundle`")
    precision: Precision = Field(default="auto", description="of the bundle's network")
    device: Device = Field(default="auto", description="of the bundle's network")

    @model_validator(mode="after")
    def _settings_take_effect(self) -> "CheckSpec":
        if "drop" in self.model_fields_set and self.cleaned is None:
            raise ValueError("drop has no effect without cleaned, the list to write")
        if self.cleaned is not None and not self.drop:
            raise ValueError("cleaned needs drop: which findings to leave out, such as unusable,duplicates,leaks")
        for name in ("drop", "fail_on"):
            asked = getattr(self, name)
            if "leaks" in asked and self.validation is None:
                raise ValueError(f"{name}: leaks need validation, the images kept apart")
            if "mislabelled" in asked and self.bundle is None:
                raise ValueError(f"{name}: mislabelled needs bundle, the model whose neighbours are looked at")
        if self.bundle is None:
            unused = {"mislabelled", "batch_size", "precision", "device"} & self.model_fields_set
            if unused:
                raise ValueError(f"{', '.join(sorted(unused))}: no effect without bundle")
        return self

    @property
    def dropped(self) -> tuple[Finding, ...]:
        """The findings that the cleaned list leaves out, each once, in the order of FINDINGS."""
        asked = {*self.drop, *(UNUSABLE if "unusable" in self.drop else ())}
        return tuple(finding for finding in FINDINGS if finding in asked)
