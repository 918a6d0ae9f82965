"""Losses of metric learning, for `kinsight train` and for anybody's own loop.

    from kinsight.losses import ArcFace, supcon
    head = ArcFace(num_classes=1000, embedding_dim=512)          # its parameters go to the optimizer, too
    loss, stats = head(embeddings, labels)

Heads over classes are modules with the class weights inside; losses over pairs are functions. Logits and losses are
computed in float32 at least, also under autocast.
"""

from kinsight.losses.angle_multiple import LargeMarginSoftmax, SphereFace
from kinsight.losses.arcface import ArcFace
from kinsight.losses.build import build_objective
from kinsight.losses.cosine_margin import AMSoftmax, CosFace
from kinsight.losses.head import ClassHead
from kinsight.losses.objective import HeadTerm, Objective, PairTerm
from kinsight.losses.smoothed_cross_entropy import SmoothedCrossEntropy
from kinsight.losses.softmax import NormalizedSoftmax, Softmax
from kinsight.losses.supcon import supcon, supcon_anchors

__all__ = [
    "AMSoftmax",
    "ArcFace",
    "ClassHead",
    "CosFace",
    "HeadTerm",
    "LargeMarginSoftmax",
    "NormalizedSoftmax",
    "Objective",
    "PairTerm",
    "SmoothedCrossEntropy",
    "Softmax",
    "SphereFace",
    "build_objective",
    "supcon",
    "supcon_anchors",
]
