"""Training of a router: an epoch that ends in weights that are no numbers is done again at a lower rate."""

import math
from typing import Any

import pytest
import torch

from kinsight.errors import RunError
from kinsight.parallel.device import choose_precision
from kinsight.partition.clusters import Clusters
from kinsight.partition.fit import FitPlan, FitState, fit
from kinsight.partition.routers import Router, from_clusters


def problem(hidden: tuple[int, ...]) -> tuple[Router, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    clusters = Clusters(torch.randn(8, 4, generator=generator), torch.zeros(8))
    query_ND = torch.randn(300, 4, generator=generator)
    return from_clusters(clusters, 1.0, hidden), query_ND, clusters.assign(query_ND)[0][:, None, None]


def plan(lr: float, epochs: int, batch_size: int = 300) -> FitPlan:
    return FitPlan(epochs, 0.0, batch_size, lr, 0, choose_precision("fp32", torch.device("cpu")))


@pytest.mark.parametrize("hidden", [(), (16,)], ids=str)
@pytest.mark.parametrize("lr", [1e37, 3e37])
def test_one_step_at_a_rate_beyond_all_reason(lr: float, hidden: tuple[int, ...]) -> None:
    """Its loss is that of the weights before it."""
    router, query_ND, list_NKC = problem(hidden)
    state = fit(router, query_ND, list_NKC, plan(lr, 1))
    assert all(bool(each.isfinite().all()) for each in router.state_dict().values())
    assert router.eval()(query_ND).log_softmax(1).isfinite().all() and math.isfinite(state.losses[0])


@pytest.mark.parametrize("weight", ["weight", "network.1.running_var"])
def test_weights_after_the_last_step_are_looked_at(weight: str, capsys: pytest.CaptureFixture[str]) -> None:
    router, query_ND, list_NKC = problem((16,))
    kept: list[FitState] = []
    spoiled: list[int] = []

    def spoil(number: int, loss: float) -> None:
        if len(kept) == 1 and not spoiled:
            spoiled.append(number)
            with torch.no_grad():
                router.state_dict()[weight].view(-1)[0] = math.nan

    fit(router, query_ND, list_NKC, plan(1e-3, 3), after_step=spoil, after_epoch=kept.append)
    assert spoiled and [state.epoch for state in kept] == [1, 2, 3] and kept[-1].lr == 5e-4
    assert "going on from the last good state" in capsys.readouterr().err
    assert all(bool(each.isfinite().all()) for each in router.state_dict().values())


def test_when_nothing_helps() -> None:
    router, query_ND, list_NKC = problem(())

    def spoil(*_: Any) -> None:
        with torch.no_grad():
            router.weight.fill_(math.inf)

    with pytest.raises(RunError, match="stays not finite"):
        fit(router, query_ND, list_NKC, plan(1e-3, 1), after_step=spoil)
