"""Losses of metric learning, for `kinsight train` and for anybody's own loop.

    from kinsight.losses import ArcFace, HardPairs, Triplet
    head = ArcFace(num_classes=1000, embedding_dim=512)          # its parameters go to the optimizer, too
    loss, stats = head(embeddings, labels)
    loss = Triplet(margin=0.2)(embeddings, labels, miner=HardPairs())

Losses for images of many labels (Bce, Focal, Asl, TwoWay) are heads, too: `loss, stats = head(embeddings, multi_hot)`.
Heads over classes are modules with the class weights inside; losses over pairs are functions with their settings bound,
over any relation of `kinsight.relations`. Logits and losses are computed in float32 at least, also under autocast.
"""

from kinsight.losses.adaface import AdaFace
from kinsight.losses.angle_multiple import LargeMarginSoftmax, SphereFace
from kinsight.losses.arcface import ArcFace
from kinsight.losses.arcmargin import ArcMargin
from kinsight.losses.asl import Asl
from kinsight.losses.batch_losses import BatchLoss, NPairs, Quadruplet, VICReg
from kinsight.losses.bce import Bce
from kinsight.losses.block import Block, Miner, Part
from kinsight.losses.build import ClassCounts, build_objective
from kinsight.losses.circle import Circle
from kinsight.losses.contrastive import Contrastive
from kinsight.losses.cosine_margin import AMSoftmax, CosFace
from kinsight.losses.eml import Eml
from kinsight.losses.fast_ap import FastAP
from kinsight.losses.focal import Focal
from kinsight.losses.head import ClassHead, LinearForm
from kinsight.losses.info_nce import InfoNCE
from kinsight.losses.label_head import LabelHead
from kinsight.losses.long_tail import balancing_weights, class_shift, effective_weights, label_shift
from kinsight.losses.magface import MagFace
from kinsight.losses.memory import Memory
from kinsight.losses.miners import (
    Angular,
    Consecutive,
    DistanceWeighted,
    HardPairs,
    MultiSimilarityPairs,
    SemiHard,
)
from kinsight.losses.multi_similarity import MultiSimilarity
from kinsight.losses.objective import BatchTerm, HeadTerm, Objective, PairTerm
from kinsight.losses.pairs import PairLoss, pair_sums
from kinsight.losses.proxy_anchor import ProxyAnchor
from kinsight.losses.proxy_nca import ProxyNCA
from kinsight.losses.recall_at_k import RecallAtK
from kinsight.losses.sigmoid_pairs import SigmoidPairs
from kinsight.losses.smooth_ap import SmoothAP
from kinsight.losses.smoothed_cross_entropy import SmoothedCrossEntropy
from kinsight.losses.soft_triple import SoftTriple
from kinsight.losses.softmax import NormalizedSoftmax, Softmax
from kinsight.losses.sub_center_arcface import DominantCentres, SubCenterArcFace
from kinsight.losses.supcon import SupCon
from kinsight.losses.triplet import Triplet
from kinsight.losses.two_way import TwoWay

__all__ = [
    "AMSoftmax",
    "AdaFace",
    "Angular",
    "ArcFace",
    "ArcMargin",
    "Asl",
    "BatchLoss",
    "BatchTerm",
    "Bce",
    "Block",
    "Circle",
    "ClassCounts",
    "ClassHead",
    "Consecutive",
    "Contrastive",
    "CosFace",
    "DistanceWeighted",
    "DominantCentres",
    "Eml",
    "FastAP",
    "Focal",
    "HardPairs",
    "HeadTerm",
    "InfoNCE",
    "LabelHead",
    "LargeMarginSoftmax",
    "LinearForm",
    "MagFace",
    "Memory",
    "Miner",
    "MultiSimilarity",
    "MultiSimilarityPairs",
    "NPairs",
    "NormalizedSoftmax",
    "Objective",
    "PairLoss",
    "PairTerm",
    "Part",
    "ProxyAnchor",
    "ProxyNCA",
    "Quadruplet",
    "RecallAtK",
    "SemiHard",
    "SigmoidPairs",
    "SmoothAP",
    "SmoothedCrossEntropy",
    "SoftTriple",
    "Softmax",
    "SphereFace",
    "SubCenterArcFace",
    "SupCon",
    "Triplet",
    "TwoWay",
    "VICReg",
    "balancing_weights",
    "build_objective",
    "class_shift",
    "effective_weights",
    "label_shift",
    "pair_sums",
]
