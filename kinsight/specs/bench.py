"""What each `kinsight bench NAME` may be told."""

from typing import Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.data import Source

_THREADS = "thread counts to measure at, one after the other"


class BenchEvaluate(Spec):
    """Retrieval metrics against pytorch-metric-learning's AccuracyCalculator."""

    job: Literal["bench evaluate"] = "bench evaluate"
    items: int = Field(default=60_000, ge=100, description="vectors")
    dim: int = Field(default=512, ge=2, description="vector length")
    classes: list[int] = Field(default=[15_000, 600], min_length=1, description="class counts to measure with")
    threads: list[int] = Field(default=[2], min_length=1, description=_THREADS)
    repeats: int = Field(default=5, ge=1, description="measurements of each side, interleaved")
    seed: int = Field(default=0, ge=0, description="seed of the vectors")


class BenchDecode(Spec):
    """JPEG file to augmented tensor against torchvision's ImageFolder with RandomResizedCrop."""

    job: Literal["bench decode"] = "bench decode"
    images: str = Field(description="folder of class folders with JPEG files, or a zip of one")
    enlarge_to: list[int] | None = Field(
        default=[1600, 1200], description="also measure on copies of this size; null: do not"
    )
    workers: list[int] = Field(default=[0, 2], min_length=1, description="worker counts to measure with")
    image_size: int = Field(default=224, ge=8, description="side of the crop, in pixels")
    seconds: float = Field(default=5.0, gt=0, description="time of one measurement")
    repeats: int = Field(default=5, ge=1, description="measurements of each side, interleaved")


class BenchTrain(Spec):
    """Images per second of the default loop against a plain pytorch-metric-learning loop."""

    job: Literal["bench train"] = "bench train"
    models: list[Literal["conv4", "resnet18"]] = Field(
        default=["conv4", "resnet18"], min_length=1, description="networks"
    )
    threads: list[int] = Field(default=[1, 2], min_length=1, description=_THREADS)
    seconds: float = Field(default=10.0, gt=0, description="time of one measurement")
    repeats: int = Field(default=5, ge=1, description="measurements of each side, interleaved")


class BenchServe(Spec):
    """Latency of searches by image over HTTP, as clients see it, with one and with many of them."""

    job: Literal["bench serve"] = "bench serve"
    bundle: str = Field(description="address of a model bundle")
    index: str = Field(description="address of an index of that bundle whose items' images can be read")
    users: list[int] = Field(default=[1, 20], min_length=1, description="clients that ask at the same time")
    requests: int = Field(default=400, ge=10, description="searches measured per row, shared among the clients")
    k: int = Field(default=12, ge=1, le=1000, description="neighbours asked for")
    threads: int = Field(default=2, ge=1, description="threads the server computes with")


class BenchSymbols(Spec):
    """Symbols drawn by hand, or in fonts the demo has never seen: is the right character among the first found?"""

    job: Literal["bench symbols"] = "bench symbols"
    demo: str = Field(default="kinsight-demo", description="folder of a finished `kinsight demo`")
    times: int = Field(
        default=6, ge=1, le=1000, description="how often a hand draws each of about 100 ordinary symbols"
    )
    fonts: list[str] = Field(
        default=[],
        description="instead of a hand, font files that matplotlib does not ship, such as FreeSerif.ttf, for any of "
        "the demo's symbols",
    )
    symbols: int = Field(default=50, ge=1, description="symbols to draw in the fonts")
    k: int = Field(default=5, ge=1, le=100, description="results in which the character must be")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of the symbols, their fonts and their strokes")
    picture: str | None = Field(default=None, description="PNG file for the drawn symbols and what was found")

    @model_validator(mode="after")
    def _one_way_of_drawing(self) -> "BenchSymbols":
        if self.fonts and "times" in self.model_fields_set:
            raise ValueError("times has no effect with fonts; symbols says how many are drawn")
        if not self.fonts and "symbols" in self.model_fields_set:
            raise ValueError("symbols has no effect without fonts; times says how often each is drawn")
        return self


class BenchReport(Spec):
    """Time and memory of a report and of its embedding map, and the size of the page."""

    job: Literal["bench report"] = "bench report"
    images: str = Field(description="folder with images, in folders of it too; repeated as often as needed")
    items: list[int] = Field(default=[10_000, 60_000], min_length=1, description="numbers of items, all on the map")
    dim: int = Field(default=128, ge=2, description="vector length")
    pictures_mb: float = Field(default=8.0, ge=0, description="megabytes of pictures on the map")
    threads: int = Field(default=1, ge=1, description="threads to compute with")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of the vectors")


class BenchCheck(Spec):
    """Precision and recall of `data check` on faults planted into a real set."""

    job: Literal["bench check"] = "bench check"
    data: Source = Field(description="labelled images to plant faults into; they stay as they are")
    bundle: str | None = Field(default=None, description="address of a model's bundle, to find swapped labels by")
    each: int = Field(default=200, ge=1, description="faults of each kind")
    workers: int = Field(default=2, ge=0, le=256, description="processes that read images")
    seed: int = Field(default=0, ge=0, description="seed of what is planted where")
