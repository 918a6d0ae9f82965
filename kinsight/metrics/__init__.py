"""Retrieval and verification metrics, usable inside any training loop.

`retrieval_metrics(emb_ND, label_N)` gives Recall@k, R-precision, MAP@R and more in one call; the functions of
`ranking` give one metric per query from `kinsight.neighbors.ranks`. `draw_pairs` and `verification_metrics` answer
"same or different". `class_table` and `bootstrap_intervals` say where and how surely.
"""

from kinsight.metrics.classes import ClassTable, Interval, bootstrap_intervals, class_table, label_table
from kinsight.metrics.curve_intervals import pair_intervals
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
    "DrawnPairs",
    "FoldAccuracy",
    "Interval",
    "OperatingPoint",
    "PairRelation",
    "Reordered",
    "RetrievalResult",
    "Roc",
    "SameLabel",
    "Threshold",
    "VerificationResult",
    "auc",
    "average_precision",
    "best_threshold",
    "bootstrap_intervals",
    "class_table",
    "cmc_curve",
    "decision_thresholds",
    "draw_pairs",
    "eer",
    "fold_accuracy",
    "label_table",
    "map_at_r",
    "pair_intervals",
    "precision_at",
    "r_precision",
    "rate_name",
    "recall_at",
    "reciprocal_rank",
    "retrieval_metrics",
    "roc",
    "tpr_at_fpr",
    "verification_metrics",
]
