"""Metrics of retrieval, verification and classification, usable inside any training loop.

`retrieval_metrics(emb_ND, label_N)` gives Recall@k, R-precision, MAP@R and more in one call; the functions of
`ranking` give one metric per query from `kinsight.neighbors.ranks`. `draw_pairs` and `verification_metrics` answer
"same or different". `classification_metrics` and `multilabel_metrics` judge scores of classes; `choose_thresholds` and
`fit_temperature` turn them into decisions and probabilities. `class_table` and `bootstrap_intervals` say where
and how surely.
"""

from kinsight.metrics.calibration import Reliability, Temperature, fit_temperature, probabilities, reliability
from kinsight.metrics.classes import ClassTable, Interval, bootstrap_intervals, class_table, label_table
from kinsight.metrics.classification import ClassificationResult, Confusion, classification_metrics
from kinsight.metrics.curve_intervals import pair_intervals
from kinsight.metrics.label_thresholds import LabelThresholds, choose_thresholds
from kinsight.metrics.labels import MultilabelResult, multilabel_metrics, threshold_metrics
from kinsight.metrics.pairs import DrawnPairs, draw_pairs
from kinsight.metrics.ranking import (
    average_precision,
    cmc_curve,
    map_at_r,
    precision_at,
    r_precision,
    recall_at,
    reciprocal_rank,
)
from kinsight.metrics.related import AlikeAt, AlikePairs
from kinsight.metrics.relation import PairRelation, SameLabel
from kinsight.metrics.reordered import Reordered
from kinsight.metrics.retrieval import RetrievalResult, retrieval_metrics
from kinsight.metrics.thresholds import Threshold, decision_thresholds
from kinsight.metrics.verification import (
    FoldAccuracy,
    OperatingPoint,
    Roc,
    VerificationResult,
    auc,
    best_threshold,
    eer,
    fold_accuracy,
    rate_name,
    roc,
    tpr_at_fpr,
    verification_metrics,
)

__all__ = [
    "AlikeAt",
    "AlikePairs",
    "ClassTable",
    "ClassificationResult",
    "Confusion",
    "DrawnPairs",
    "FoldAccuracy",
    "Interval",
    "LabelThresholds",
    "MultilabelResult",
    "OperatingPoint",
    "PairRelation",
    "Reliability",
    "Reordered",
    "RetrievalResult",
    "Roc",
    "SameLabel",
    "Temperature",
    "Threshold",
    "VerificationResult",
    "auc",
    "average_precision",
    "best_threshold",
    "bootstrap_intervals",
    "choose_thresholds",
    "class_table",
    "classification_metrics",
    "cmc_curve",
    "decision_thresholds",
    "draw_pairs",
    "eer",
    "fit_temperature",
    "fold_accuracy",
    "label_table",
    "map_at_r",
    "multilabel_metrics",
    "pair_intervals",
    "precision_at",
    "probabilities",
    "r_precision",
    "rate_name",
    "recall_at",
    "reciprocal_rank",
    "reliability",
    "retrieval_metrics",
    "roc",
    "threshold_metrics",
    "tpr_at_fpr",
    "verification_metrics",
]
