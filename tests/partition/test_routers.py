"""Routers: what they begin as, what they learn, a loss that is no number."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kinsight.parallel.device import choose_precision
from kinsight.partition.clusters import Clusters
from kinsight.partition.fit import FitPlan, FitState, fit
from kinsight.partition.routers import Router, best_scale, from_clusters, routing_loss


def rows(number: int, dim: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


CLUSTERS = Clusters(rows(9, seed=1), torch.rand(9, generator=torch.Generator().manual_seed(2)))


def loss_of(router: Router, query_QR: Tensor, list_QKC: Tensor) -> float:
    with torch.no_grad():
        return float(routing_loss(router.eval()(query_QR), list_QKC))


def plan(**changes: object) -> FitPlan:
    arithmetic = choose_precision("fp32", torch.device("cpu"))
    plan = {"epochs": 4, "warmup_epochs": 1.0, "batch_size": 32, "lr": 0.05, "seed": 0, "arithmetic": arithmetic}
    return FitPlan(**plan | changes)  # type: ignore[arg-type]


def test_the_loss_is_the_cross_entropy_to_the_neighbours_lists() -> None:
    score_QL = rows(3, 5)
    list_QKC = torch.tensor([[[0, -1], [1, 2]], [[3, -1], [3, -1]], [[4, 0], [-1, -1]]])
    log = score_QL.double().log_softmax(1)
    each = [
        -(log[0, 0] + (log[0, 1] + log[0, 2]) / 2) / 2,
        -log[1, 3],
        -(log[2, 4] + log[2, 0]) / 2 / 2,
    ]
    assert float(routing_loss(score_QL, list_QKC)) == pytest.approx(float(sum(each)) / 3, rel=1e-6)


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_it_begins_as_k_means(hidden: tuple[int, ...]) -> None:
    query_QR = rows(40)
    router = from_clusters(CLUSTERS, 2.5, hidden).eval()
    order = router(query_QR).argsort(1, descending=True)
    wanted = (torch.cdist(query_QR, CLUSTERS.centre_LD).square() + CLUSTERS.price_L).argsort(1)
    assert torch.equal(order, wanted)


def test_the_scale_explains_the_neighbours_best() -> None:
    query_QR = rows(500)
    distance = torch.cdist(query_QR, CLUSTERS.centre_LD).square() + CLUSTERS.price_L
    share = (-1.3 / 2 * distance).softmax(1)
    list_QKC = share.multinomial(20, replacement=True, generator=torch.Generator().manual_seed(0))[:, :, None]
    assert best_scale(CLUSTERS, query_QR, list_QKC) == pytest.approx(1.3, rel=0.35)


@pytest.mark.parametrize("hidden", [(), (32,)])
def test_it_learns_where_distances_mislead(hidden: tuple[int, ...]) -> None:
    """Neighbours lie in the list that another coordinate names."""
    query_QR = rows(400)
    list_QKC = (query_QR[:, 0] > 0).long()[:, None, None].expand(-1, 3, -1)
    torch.manual_seed(0)
    router = from_clusters(CLUSTERS, 1.0, hidden)
    before = loss_of(router, query_QR, list_QKC)
    state = fit(router, query_QR, list_QKC, plan(epochs=20))
    assert loss_of(router, query_QR, list_QKC) < 0.35 * before
    assert len(state.losses) == 20 and state.losses[-1] < state.losses[0]


def started(hidden: tuple[int, ...]) -> Router:
    torch.manual_seed(7)
    return from_clusters(CLUSTERS, 1.0, hidden, dropout=0.4)


@pytest.mark.parametrize("hidden", [(), (16,)], ids=str)
@pytest.mark.parametrize("spoiled", [False, True])
def test_going_on_is_the_same_as_not_stopping(spoiled: bool, hidden: tuple[int, ...]) -> None:
    """To the last bit, with dropout too, and where an epoch is done again at half the rate."""
    query_QR = rows(100)
    list_QKC = torch.randint(9, (100, 4, 1), generator=torch.Generator().manual_seed(0))
    kept: list[FitState] = []

    def spoil(router: Router) -> Callable[[int, float], None]:
        once = iter([spoiled])

        def after_step(*_: float) -> None:
            if len(kept) == 2 and next(once, False):
                with torch.no_grad():
                    router.bias[0] = math.nan

        return after_step

    whole = started(hidden)
    fit(whole, query_QR, list_QKC, plan(), after_step=spoil(whole), after_epoch=kept.append)
    assert kept[-1].lr == (0.025 if spoiled else 0.05)
    other, state = started(hidden), kept[1]
    del kept[2:]
    torch.rand(5)  # whatever else was drawn meanwhile
    fit(other, query_QR, list_QKC, plan(), state=state, after_step=spoil(other), after_epoch=kept.append)
    assert kept[-1].lr == (0.025 if spoiled else 0.05)
    for name, each in whole.state_dict().items():
        assert torch.equal(each, other.state_dict()[name]), name


def test_a_loss_that_is_no_number_goes_back_and_halves_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    query_QR, list_QKC = rows(64), torch.zeros(64, 2, 1, dtype=torch.int64)
    router = _Breaking(from_clusters(CLUSTERS, 1.0), at=5)
    state = fit(router, query_QR, list_QKC, plan(epochs=3))
    assert state.epoch == 3 and state.lr == pytest.approx(0.025)
    assert all(math.isfinite(loss) for loss in state.losses)
    assert "epoch 1: the loss is no number; going on from the last good state at the rate 0.025" in (
        capsys.readouterr().err
    )


class _Breaking(Router):
    """Gives NaN in one call."""

    def __init__(self, router: Router, at: int) -> None:
        super().__init__(router.weight.detach(), router.bias.detach())
        self.calls, self.at = 0, at

    def forward(self, query_QD: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(query_QD) * (math.nan if self.calls == self.at else 1)
