"""What `kinsight bench tfrecord` may be told."""

from typing import Annotated, Literal

from pydantic import Field

from kinsight.specs.base import Spec


class BenchTfrecord(Spec):
    """Reading records from TFRecord files, beside the `tfrecord` package and WebDataset on the same bytes."""

    job: Literal["bench tfrecord"] = "bench tfrecord"
    bytes: list[Annotated[int, Field(ge=64)]] = Field(
        default=[3_000, 30_000, 110_000], min_length=1, description="sizes of an encoded image to measure at"
    )
    mb: float = Field(default=150.0, gt=0, description="size of the file at each, in MB")
    repeats: int = Field(default=7, ge=1, description="measurements of each side, in turn")
    seed: int = Field(default=0, ge=0, description="seed of the bytes")
