"""Spec -> term, for the losses over pairs, their miners and memories."""

from typing import NamedTuple, assert_never

from kinsight.losses.batch_losses import BatchLoss, NPairs, Quadruplet, VICReg
from kinsight.losses.block import Miner
from kinsight.losses.circle import Circle
from kinsight.losses.contrastive import Contrastive
from kinsight.losses.eml import Eml
from kinsight.losses.fast_ap import FastAP
from kinsight.losses.info_nce import InfoNCE
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
from kinsight.losses.objective import BatchTerm, PairTerm
from kinsight.losses.pairs import PairLoss
from kinsight.losses.recall_at_k import RecallAtK
from kinsight.losses.sigmoid_pairs import SigmoidPairs
from kinsight.losses.smooth_ap import SmoothAP
from kinsight.losses.supcon import SupCon
from kinsight.losses.triplet import Triplet
from kinsight.specs import losses as specs
from kinsight.specs import miners


class Pairs(NamedTuple):
    """What losses over pairs need to know of the data and the network."""

    embedding_dim: int
    target_shape: tuple[int, ...]


def build_pair_term(spec: specs.OverPairs, name: str, pairs: Pairs) -> PairTerm | BatchTerm:
    """The term a spec describes."""
    loss = _loss(spec)
    if not isinstance(loss, PairLoss):
        return BatchTerm(name, spec.weight, loss)
    miner = _miner(spec.miner) if isinstance(spec, specs.WithMiner) else None
    memory = None
    if isinstance(spec, specs.WithMemory) and spec.memory is not None:
        settings = {"warmup_steps": spec.memory.warmup_steps, "target_shape": pairs.target_shape}
        memory = Memory(spec.memory.size, pairs.embedding_dim, **settings)
    return PairTerm(name, spec.weight, loss, miner=miner, memory=memory)


def _loss(spec: specs.OverPairs) -> PairLoss | BatchLoss:
    match spec:
        case specs.Contrastive():
            return Contrastive(spec.positive_margin, spec.margin, spec.distance)
        case specs.Triplet():
            return Triplet(spec.margin, spec.distance, spec.mean_over)
        case specs.MultiSimilarity():
            return MultiSimilarity(spec.alpha, spec.beta, spec.base)
        case specs.Circle():
            return Circle(spec.margin, spec.scale)
        case specs.InfoNCE():
            return InfoNCE(spec.temperature)
        case specs.SupCon():
            return SupCon(spec.temperature)
        case specs.SigmoidPairs():
            return SigmoidPairs(spec.scale, spec.bias)
        case specs.SmoothAP():
            return SmoothAP(spec.temperature)
        case specs.RecallAtK():
            return RecallAtK(tuple(spec.ks), spec.temperature, spec.k_temperature)
        case specs.FastAP():
            return FastAP(spec.bins)
        case specs.Eml():
            return Eml(spec.beta)
        case specs.Quadruplet():
            return Quadruplet(spec.margin)
        case specs.NPairs():
            return NPairs(spec.reg_weight)
        case specs.VICReg():
            return VICReg(spec.variance_weight, spec.covariance_weight)
    assert_never(spec)


def _miner(spec: miners.Miner) -> Miner | None:
    match spec:
        case miners.AllPairs():
            return None
        case miners.HardMiner():
            return HardPairs()
        case miners.SemiHardMiner():
            return SemiHard()
        case miners.DistanceWeightedMiner():
            return DistanceWeighted(spec.cutoff, spec.farthest)
        case miners.MultiSimilarityMiner():
            return MultiSimilarityPairs(spec.epsilon)
        case miners.AngularMiner():
            return Angular(spec.angle_deg)
        case miners.ConsecutiveMiner():
            return Consecutive()
    assert_never(spec)
