"""pytorch-metric-learning's counterparts of our losses, miners and samplers, in our training loop."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinsight.data import Records
from kinsight.errors import SpecError
from kinsight.specs import losses as specs
from kinsight.specs import miners
from kinsight.specs.samplers import PerClassSampler, ShuffleSampler
from kinsight.specs.train import TrainSpec
from kinsight.training import train
from kinsight.training.optimizers import build_optimizer
from kinsight.training.prepared import Prepared


def has_counterpart(spec: TrainSpec) -> str | None:
    """What of a candidate the peer lacks; None where it has all."""
    if spec.extra_losses or spec.loss.ce is not None:
        return "several terms"
    if spec.relation.kind != "same-label":
        return f"relation {spec.relation.kind}"
    if not isinstance(spec.sampler, ShuffleSampler | PerClassSampler):
        return f"sampler {spec.sampler.kind}"
    memory = getattr(spec.loss, "memory", None)
    if memory is not None and memory.size < spec.batch.size:
        return "memory smaller than a batch"
    try:
        _loss(spec.loss, 2, 2)
        _miner(spec.loss)
    except SpecError as error:
        return error.message
    return None


def train_peer(spec: TrainSpec) -> None:
    """Train as `kinsight train` does, with the peer's parts. Raises what it raises."""
    train(spec, adapt=_exchange)


def _exchange(prepared: Prepared) -> None:
    """The peer's loss, miner and sampler in the place of ours."""
    spec, training = prepared.spec, prepared.training
    torch.manual_seed(spec.seed)
    objective = PeerObjective(spec, prepared.records.num_classes).to(prepared.device).train()
    prepared.learner.objective = objective  # type: ignore[assignment] - it has what the loop asks of one
    training.optimizer = build_optimizer(spec.optimizer, prepared.net, objective)
    if isinstance(spec.sampler, PerClassSampler):
        prepared.sampler = PeerBatches(prepared.records, spec.sampler, prepared.steps_per_epoch, spec)
    torch.manual_seed(spec.seed)


class PeerObjective(nn.Module):
    """A loss of the peer, with its miner, as the loop wants an objective."""

    compares_rows = True

    def __init__(self, spec: TrainSpec, num_classes: int) -> None:
        super().__init__()
        self.loss, self.miner = _loss(spec.loss, num_classes, spec.model.embedding_dim), _miner(spec.loss)
        memory = getattr(spec.loss, "memory", None)
        if memory is not None:
            from pytorch_metric_learning.losses import CrossBatchMemory

            self.loss = CrossBatchMemory(self.loss, spec.model.embedding_dim, memory.size, self.miner)
            self.miner = None

    def forward(self, emb_BD: Tensor, target_B: Tensor, **ignored: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and itself as the only statistic."""
        found = self.miner(emb_BD, target_B) if self.miner is not None else None
        loss = self.loss(emb_BD, target_B, found) if found is not None else self.loss(emb_BD, target_B)
        return loss, {"loss": loss.detach()}


class PeerBatches:
    """The peer's MPerClassSampler; an epoch's batches depend on seed and epoch alone, as ours."""

    def __init__(self, records: Records, sampler: PerClassSampler, num_batches: int, spec: TrainSpec) -> None:
        from pytorch_metric_learning.samplers import MPerClassSampler

        self._size, self._seed, self.num_batches = spec.batch.size, spec.seed, num_batches
        self._sampler = MPerClassSampler(
            records.label_N, sampler.samples_per_class, spec.batch.size, spec.batch.size * num_batches
        )
        self._labels = list(self._sampler.labels)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Record numbers of each batch, int64."""
        from pytorch_metric_learning.utils import common_functions

        common_functions.NUMPY_RANDOM = np.random.RandomState([self._seed, epoch])
        self._sampler.labels = list(self._labels)
        index = np.fromiter(self._sampler, np.int64)
        return list(index.reshape(-1, self._size))


def _loss(spec: specs.Loss, num_classes: int, dim: int) -> nn.Module:
    """Raises SpecError for a loss without counterpart."""
    from pytorch_metric_learning import losses

    peer: Any = losses  # whose annotations say int where it takes any number

    size: dict[str, Any] = {"num_classes": num_classes, "embedding_size": dim}
    match spec:
        case specs.NormalizedSoftmax():
            return peer.NormalizedSoftmaxLoss(**size, temperature=spec.temperature)
        case specs.AMSoftmax() | specs.CosFace():
            return peer.CosFaceLoss(**size, margin=spec.margin, scale=spec.scale)
        case specs.ArcFace():
            return peer.ArcFaceLoss(**size, margin=spec.margin_deg, scale=spec.scale)
        case specs.SubCenterArcFace():
            centres = spec.centres
            return peer.SubCenterArcFaceLoss(**size, margin=spec.margin_deg, scale=spec.scale, sub_centers=centres)
        case specs.SphereFace():
            return peer.SphereFaceLoss(**size, margin=spec.margin, scale=spec.scale)
        case specs.ProxyNCA():
            return peer.ProxyNCALoss(**size, softmax_scale=1 / spec.temperature)
        case specs.ProxyAnchor():
            return peer.ProxyAnchorLoss(**size, margin=spec.margin, alpha=spec.alpha)
        case specs.SoftTriple():
            shape = {"centers_per_class": spec.centres, "la": spec.scale, "gamma": spec.gamma, "margin": spec.margin}
            return peer.SoftTripleLoss(**size, **shape)
        case _:
            return _pair_loss(spec)


def _pair_loss(spec: specs.Loss) -> nn.Module:
    from pytorch_metric_learning import losses

    peer: Any = losses  # whose annotations say int where it takes any number
    from pytorch_metric_learning.reducers import MeanReducer

    match spec:
        case specs.Contrastive():
            return peer.ContrastiveLoss(spec.positive_margin, spec.margin, distance=_distance(spec.distance))
        case specs.Triplet():
            more = {"reducer": MeanReducer()} if spec.mean_over == "all" else {}
            return peer.TripletMarginLoss(spec.margin, distance=_distance(spec.distance), **more)
        case specs.MultiSimilarity():
            return peer.MultiSimilarityLoss(spec.alpha, spec.beta, spec.base)
        case specs.Circle():
            return peer.CircleLoss(spec.margin, spec.scale)
        case specs.InfoNCE():
            return peer.NTXentLoss(spec.temperature)
        case specs.SupCon():
            return peer.SupConLoss(spec.temperature)
        case specs.SmoothAP():
            return peer.SmoothAPLoss(spec.temperature)
        case specs.FastAP():
            return peer.FastAPLoss(spec.bins)
        case _:
            raise SpecError("bench.no-counterpart", f"loss {spec.kind}")


def _distance(name: specs.Distance) -> Any:
    from pytorch_metric_learning.distances import LpDistance

    if name == "cosine":
        raise SpecError("bench.no-counterpart", "distances of cosines")  # the peer's margins are then of similarities
    return LpDistance(power=2 if name == "squared-euclidean" else 1)


def _miner(loss: specs.Loss) -> Any:
    """Raises SpecError for a miner without counterpart."""
    from pytorch_metric_learning import miners as peer_miners

    peer: Any = peer_miners

    match getattr(loss, "miner", None):
        case None | miners.AllPairs():
            return None
        case miners.HardMiner():
            return peer.BatchHardMiner()
        case miners.SemiHardMiner():
            return peer.TripletMarginMiner(margin=getattr(loss, "margin", 0.2), type_of_triplets="semihard")
        case miners.DistanceWeightedMiner() as spec:
            return peer.DistanceWeightedMiner(cutoff=spec.cutoff, nonzero_loss_cutoff=spec.farthest)
        case miners.MultiSimilarityMiner() as spec:
            return peer.MultiSimilarityMiner(epsilon=spec.epsilon)
        case miners.AngularMiner() as spec:
            return peer.AngularMiner(angle=spec.angle_deg)
        case other:
            raise SpecError("bench.no-counterpart", f"miner {getattr(other, 'kind', other)}")
