"""What `kinsight bench labels` may be told."""

from typing import Literal

from pydantic import Field

from kinsight.specs.base import Spec

LabelLoss = Literal["bce", "bce-balanced", "focal", "asl", "two-way"]


class BenchLabels(Spec):
    """Losses over labels at equal budget, on mosaics of two by two labelled pictures."""

    job: Literal["bench labels"] = "bench labels"
    pictures: str = Field(
        description="address of an .npz file: train and test, uint8, a square grey picture a row, train_label and "
        "test_label"
    )
    output: str = Field(description="folder for mosaics and runs; runs that are finished there are not repeated")
    losses: list[LabelLoss] = Field(default=["bce", "focal", "asl"], min_length=1, description="which, as by default")
    images: int = Field(default=10_000, ge=100, description="mosaics to train on")
    test_images: int = Field(default=4_000, ge=100, description="mosaics to test on, of other pictures")
    filled: float = Field(default=0.5, gt=0, le=1, description="share of quarters with a picture; others are black")
    imbalance: float = Field(
        default=1.0, ge=1, le=1000, description="how much more often the first class is drawn than the last"
    )
    hidden: float = Field(default=0.0, ge=0, lt=1, description="share of the training labels that are unknown")
    epochs: int = Field(default=4, ge=1, description="passes over the mosaics")
    lr: float = Field(default=0.003, gt=0, description="AdamW's learning rate, for all")
    seeds: int = Field(default=3, ge=1, description="trainings of each loss")
    threads: int = Field(default=1, ge=1, description="threads to compute with")
