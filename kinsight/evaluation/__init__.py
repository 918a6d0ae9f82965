"""Embedding images and measuring embeddings."""

from kinsight.evaluation.embed import embed
from kinsight.evaluation.evaluate import EvaluationResult, evaluate
from kinsight.evaluation.model import Model, load

__all__ = ["EvaluationResult", "Model", "embed", "evaluate", "load"]
