"""Kinsight: train image-embedding models, measure how well they retrieve, use them.

The names below load their heavy modules on first use, so `import kinsight` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kinsight.evaluation import embed, evaluate, load
    from kinsight.predicting import predict
    from kinsight.serving.search_job import search
    from kinsight.training import train

_LAZY = {
    "train": "kinsight.training",
    "evaluate": "kinsight.evaluation",
    "embed": "kinsight.evaluation",
    "load": "kinsight.evaluation",
    "predict": "kinsight.predicting",
    "search": "kinsight.serving.search_job",
}
_PACKAGES = (
    "losses", "metrics", "neighbors", "models", "data", "indexing", "partition", "storage", "parallel", "specs"
)  # fmt: skip

__all__ = ["embed", "evaluate", "load", "predict", "search", "train"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _PACKAGES:
        return import_module(f"kinsight.{name}")
    raise AttributeError(f"module 'kinsight' has no attribute {name!r}")
