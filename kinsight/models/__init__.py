"""Networks: backbone, pooling, neck; their first weights; the bundles that keep them.

Importing this package is cheap; torch comes with the first name that is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinsight.models.artefact import BundleHeader, Task, load_header, write_calibration, write_thresholds
    from kinsight.models.build import (
        Initial,
        backbone_dim,
        build_backbone,
        build_network,
        check_model,
        natural_embedding_dim,
    )
    from kinsight.models.bundle import Bundle, load_bundle, make_header, save_bundle
    from kinsight.models.classifier import Classifier, ClassifierForm
    from kinsight.models.network import EmbeddingNet, TaggedParameter
    from kinsight.models.thresholds import ThresholdPoint, Thresholds
    from kinsight.models.weights import has_published_weights

_HOME = {
    "BundleHeader": "artefact",
    "Initial": "build",
    "backbone_dim": "build",
    "build_backbone": "build",
    "build_network": "build",
    "check_model": "build",
    "natural_embedding_dim": "build",
    "Bundle": "bundle",
    "load_bundle": "bundle",
    "make_header": "bundle",
    "save_bundle": "bundle",
    "Classifier": "classifier",
    "ClassifierForm": "classifier",
    "EmbeddingNet": "network",
    "TaggedParameter": "network",
    "ThresholdPoint": "thresholds",
    "Thresholds": "thresholds",
    "load_header": "artefact",
    "Task": "artefact",
    "write_calibration": "artefact",
    "write_thresholds": "artefact",
    "has_published_weights": "weights",
}

__all__ = [
    "Bundle",
    "BundleHeader",
    "Classifier",
    "ClassifierForm",
    "EmbeddingNet",
    "Initial",
    "TaggedParameter",
    "Task",
    "ThresholdPoint",
    "Thresholds",
    "backbone_dim",
    "build_backbone",
    "build_network",
    "check_model",
    "has_published_weights",
    "load_bundle",
    "load_header",
    "make_header",
    "natural_embedding_dim",
    "save_bundle",
    "write_calibration",
    "write_thresholds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
