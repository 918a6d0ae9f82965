"""On 1, 2 and 4 ranks with uneven batches, loss, statistics and gradients equal those of one process."""

from pathlib import Path

import pytest
import torch
from gloo_ranks import Result, own_rows, run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinsight.losses import Objective, build_objective
from kinsight.parallel.batchnorm import convert
from kinsight.specs import losses as specs
from kinsight.specs import miners

ROWS, CLASSES, INPUT, DIM = 13, 5, 7, 6

CASES: dict[str, tuple[specs.Loss, ...]] = {
    "softmax": (specs.Softmax(),),
    "normalized-softmax": (specs.NormalizedSoftmax(),),
    "am-softmax": (specs.AMSoftmax(),),
    "cosface": (specs.CosFace(),),
    "arcface": (specs.ArcFace(),),
    "large-margin-softmax": (specs.LargeMarginSoftmax(),),
    "sphereface": (specs.SphereFace(),),
    "arcmargin": (specs.ArcMargin(),),
    "proxy-nca": (specs.ProxyNCA(),),
    "proxy-anchor": (specs.ProxyAnchor(),),
    "soft-triple": (specs.SoftTriple(centres=3),),
    "sub-center-arcface": (specs.SubCenterArcFace(),),
    "adaface": (specs.AdaFace(t_alpha=0.5),),
    "magface": (specs.MagFace(l_a=0.5, u_a=5),),
    "supcon": (specs.SupCon(),),
    "contrastive": (specs.Contrastive(margin=1.5),),
    "triplet": (specs.Triplet(),),
    "triplet-hard": (specs.Triplet(miner=miners.HardMiner(), mean_over="all"),),
    "triplet-semi-hard": (specs.Triplet(miner=miners.SemiHardMiner()),),
    "multi-similarity": (specs.MultiSimilarity(miner=miners.MultiSimilarityMiner()),),
    "circle": (specs.Circle(scale=8),),
    "info-nce": (specs.InfoNCE(miner=miners.AngularMiner()),),
    "sigmoid-pairs": (specs.SigmoidPairs(),),
    "smooth-ap": (specs.SmoothAP(temperature=0.1),),
    "recall-at-k": (specs.RecallAtK(temperature=0.1),),
    "fast-ap": (specs.FastAP(),),
    "eml": (specs.Eml(),),
    "memory": (specs.SupCon(memory=miners.MemorySpec(size=20, warmup_steps=1)),),
    "quadruplet": (specs.Quadruplet(),),
    "npairs": (specs.NPairs(),),
    "vicreg": (specs.VICReg(),),
    "all-terms": (
        specs.AMSoftmax(weight=0.7, ce=specs.CrossEntropyTerm(weight=0.3)),
        specs.SupCon(weight=0.5),
        specs.ArcFace(weight=0.1),
    ),
}


class Trainee(nn.Module):
    """A network with batch norm, two outputs, and its objective: what data parallel wraps."""

    def __init__(self, case: str) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Linear(INPUT, 8), nn.BatchNorm1d(8), nn.Tanh())
            self.neck = nn.Linear(8, DIM)
        loss, *extra = CASES[case]
        self.objective: Objective = build_objective(
            loss, num_classes=CLASSES, embedding_dim=DIM, aux_dim=8, extra=extra, seed=3
        )
        self.double()

    def forward(
        self, x_BI: Tensor, label_B: Tensor, weight_B: Tensor | None, global_batch: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        features_BF = self.trunk(x_BI)
        return self.objective(
            self.neck(features_BF), label_B, aux_BD=features_BF, sample_weight_B=weight_B, global_batch=global_batch
        )


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_BI = torch.randn(ROWS, INPUT, generator=generator, dtype=torch.float64)
    label_B = torch.randint(CLASSES, (ROWS,), generator=generator)
    label_B[-1] = 4  # the last rank's only rows must find their positives elsewhere
    return x_BI, label_B, torch.rand(ROWS, generator=generator, dtype=torch.float64)


def _step(trainee: nn.Module, batch: tuple[Tensor, Tensor, Tensor], mode: str) -> Result:
    x_BI, label_B, weight_B = batch
    trainee.zero_grad()
    loss, stats = trainee(x_BI, label_B, weight_B if "weighted" in mode else None, ROWS if "known" in mode else None)
    loss.backward()
    result = {f"{mode} stat {name}": value for name, value in stats.items()}
    for name, parameter in trainee.named_parameters():
        assert parameter.grad is not None
        result[f"{mode} grad {name.removeprefix('module.')}"] = parameter.grad.clone()
    return result


MODES = ("counted", "known", "weighted counted", "weighted known")
WHOLE = ("quadruplet", "npairs", "vicreg")
"""They look at a batch as a whole, where samples have no weights."""


def _modes(case: str) -> tuple[str, ...]:
    return MODES[:2] if case in WHOLE else MODES


def _worker(rank: int, world: int) -> Result:
    x_BI, label_B, weight_B = (own_rows(tensor, rank, world) for tensor in _batch())
    result: Result = {}
    for case in CASES:
        trainee = DistributedDataParallel(convert(Trainee(case)))
        for mode in _modes(case):
            part = _step(trainee, (x_BI, label_B, weight_B), mode)
            result |= {f"{case}: {name}": value for name, value in part.items()}
    return result


@pytest.mark.parametrize("world", [1, 2, 4])
def test_equal_to_one_process(world: int, tmp_path: Path) -> None:
    ranks = run_ranks(_worker, world, tmp_path)
    for case in CASES:
        whole = Trainee(case)  # kept from mode to mode, as on the ranks: a memory fills
        for mode in _modes(case):
            for name, expected in _step(whole, _batch(), mode).items():
                values = [result[f"{case}: {name}"] for result in ranks]
                # Gradients are averaged by data parallel already; statistics are to be.
                actual = torch.stack(values).mean(0) if " stat " in name else values[-1]
                assert torch.allclose(actual, expected, rtol=1e-7, atol=1e-10), f"{case}: {name}"
                assert expected.any() or "accuracy" in name or case == "npairs", (
                    f"{case}: {name} is zero and proves nothing"
                )


def _unsynchronised_worker(rank: int, world: int) -> Result:
    """The same without synchronised batch norm: what the test above must be able to tell apart."""
    x_BI, label_B, weight_B = (tensor.chunk(world)[rank] for tensor in _batch())
    return _step(DistributedDataParallel(Trainee("am-softmax")), (x_BI, label_B, weight_B), "counted")


def test_the_comparison_notices_local_batch_norm(tmp_path: Path) -> None:
    expected = _step(Trainee("am-softmax"), _batch(), "counted")
    actual = run_ranks(_unsynchronised_worker, 2, tmp_path)[0]
    assert not torch.allclose(actual["counted grad neck.weight"], expected["counted grad neck.weight"], rtol=1e-2)
