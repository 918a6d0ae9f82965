"""What `kinsight bench compare` may be told."""

from typing import Literal

from pydantic import Field

from kinsight.specs.base import Spec


class BenchCompare(Spec):
    """The candidates of a comparison against the same ones made of pytorch-metric-learning's losses, miners, samplers.

    Loop, network, images, batch, budget, folds, seeds and threads are the same.
    """

    job: Literal["bench compare"] = "bench compare"
    comparison: str = Field(description="address of a `kinsight compare` spec", json_schema_extra={"positional": True})
    output: str = Field(description="address of the folder: ours/ and peer/, each a comparison that goes on if stopped")
    ours: str | None = Field(
        default=None, description="output of `kinsight compare` on that spec, if there is one; default: output/ours"
    )
