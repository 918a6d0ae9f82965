"""The `demo` and `doctor` jobs."""

from typing import Literal

from pydantic import Field

from kinsight.specs.base import Spec


class DemoSpec(Spec):
    """Train on an embedded set of symbols, retrieve symbols never seen, search by drawing."""

    job: Literal["demo"] = "demo"
    output: str = Field(default="kinsight-demo", description="folder for pictures, run and results")
    classes: int = Field(
        default=1500, ge=20, le=3528, description="symbol classes to draw at least; half of them stay unseen"
    )
    epochs: int = Field(default=16, ge=1, description="passes over the seen symbols")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of pictures and training")
    console: bool = Field(default=True, description="end on the search page and wait; never without a terminal")
    port: int = Field(default=8000, ge=0, le=65535, description="port of the search page; 0: any free one")


class DoctorSpec(Spec):
    """Look at this machine: versions, devices, speed, credentials, storage."""

    job: Literal["doctor"] = "doctor"
    address: str | None = Field(
        default=None, description="address to try reading from and, if it is a folder, writing to"
    )
