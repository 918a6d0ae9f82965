"""Losses over labels, smoothing, weights of classes and mixtures: 1, 2 and 4 ranks equal one process."""

from pathlib import Path

import pytest
import torch
from gloo_ranks import Result, own_rows, run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinsight.losses import ClassCounts, build_objective
from kinsight.specs import losses as specs
from kinsight.specs.tasks import ClassBalanced, EqualClasses, LogitAdjustment, LongTail

ROWS, C, D = 13, 5, 6
COUNTS = ClassCounts(torch.tensor([50, 20, 5, 1, 9]), torch.full((C,), 60))
LABELS: dict[str, tuple[specs.Loss, LongTail]] = {
    "bce": (specs.Bce(positive_weight="balanced"), EqualClasses()),
    "bce-weighed": (specs.Bce(), ClassBalanced(beta=0.9)),
    "focal": (specs.Focal(), LogitAdjustment()),
    "asl": (specs.Asl(), EqualClasses()),
    "two-way": (specs.TwoWay(), EqualClasses()),
}
CLASSES: dict[str, tuple[specs.Loss, LongTail]] = {
    "smooth": (specs.Softmax(smoothing=0.2), ClassBalanced(beta=0.9)),
    "shifted": (specs.Softmax(ce=specs.CrossEntropyTerm()), LogitAdjustment()),
    "proxy-anchor": (specs.ProxyAnchor(), EqualClasses()),
    "adaface": (specs.AdaFace(t_alpha=0.5), EqualClasses()),
}


class Trainee(nn.Module):
    def __init__(self, case: str) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Linear(4, D)
        loss, long_tail = (LABELS | CLASSES)[case]
        sizes = {"num_classes": C, "embedding_dim": D, "seed": 3}
        self.objective = build_objective(loss, **sizes, long_tail=long_tail, counts=COUNTS)
        self.double()

    def forward(self, *given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x_BI, target, other_B, share_B = given
        mixed = (other_B, share_B) if target.dim() == 1 else None
        return self.objective(self.trunk(x_BI), target, global_batch=ROWS, mixed=mixed)


def _batch(case: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_BI = torch.randn(ROWS, 4, generator=generator, dtype=torch.float64)
    other_B = torch.randint(C, (ROWS,), generator=generator)
    share_B = torch.rand(ROWS, generator=generator, dtype=torch.float64)
    if case in CLASSES:
        return [x_BI, torch.randint(C, (ROWS,), generator=generator), other_B, share_B]
    target_BC = (torch.rand(ROWS, C, generator=generator) < 0.4).double()
    target_BC[torch.rand(ROWS, C, generator=generator) < 0.2] = -1
    target_BC[:, 2] = 0
    target_BC[-1, 2] = 1  # the only positive of its label is the last rank's only row
    target_BC[0] = -1
    return [x_BI, target_BC, other_B, share_B]


def _step(trainee: nn.Module, batch: list[Tensor]) -> Result:
    loss, stats = trainee(*batch)
    loss.backward()
    result = {f"stat {name}": value for name, value in stats.items()}
    for name, parameter in trainee.named_parameters():
        assert parameter.grad is not None
        result[f"grad {name.removeprefix('module.')}"] = parameter.grad.clone()
    return result


def _worker(rank: int, world: int) -> Result:
    result: Result = {}
    for case in LABELS | CLASSES:
        batch = [own_rows(tensor, rank, world) for tensor in _batch(case)]
        for name, value in _step(DistributedDataParallel(Trainee(case)), batch).items():
            result[f"{case}: {name}"] = value
    return result


@pytest.mark.parametrize("world", [1, 2, 4])
def test_equal_to_one_process(world: int, tmp_path: Path) -> None:
    ranks = run_ranks(_worker, world, tmp_path)
    for case in LABELS | CLASSES:
        for name, expected in _step(Trainee(case), _batch(case)).items():
            values = [result[f"{case}: {name}"] for result in ranks]
            actual = torch.stack(values).mean(0) if name.startswith("stat") else values[-1]
            torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-10, msg=f"{case}: {name}")
            assert expected.any() or "accuracy" in name, f"{case}: {name} is zero and proves nothing"
