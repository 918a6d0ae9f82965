"""Training: one job, spec in, run folder out."""

from kinsight.training.run import TrainResult, train

__all__ = ["TrainResult", "train"]
