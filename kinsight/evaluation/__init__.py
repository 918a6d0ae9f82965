"""Embedding images and measuring embeddings."""

from kinsight.data.stored import Embeddings, load_embeddings
from kinsight.evaluation.embed import embed
from kinsight.evaluation.evaluate import EvaluationResult, evaluate
from kinsight.evaluation.model import Model, load

__all__ = ["Embeddings", "EvaluationResult", "Model", "embed", "evaluate", "load", "load_embeddings"]
