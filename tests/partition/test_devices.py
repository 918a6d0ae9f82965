"""Work divided among devices comes to what one of them gives; here several times the CPU."""

import pytest
import torch

from kinsight.parallel.device import choose_precision
from kinsight.partition.clusters import Clusters
from kinsight.partition.devices import devices_with, loss_over
from kinsight.partition.fit import FitPlan, fit
from kinsight.partition.routers import Router, from_clusters, routing_loss
from kinsight.partition.truth import nearest_in_blocks

CPU = torch.device("cpu")


def problem(hidden: tuple[int, ...], queries: int = 101) -> tuple[Router, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    clusters = Clusters(torch.randn(8, 4), torch.zeros(8))
    query_BR = torch.randn(queries, 4)
    list_BKC = torch.randint(-1, 8, (queries, 5, 2))
    return from_clusters(clusters, 1.0, hidden, dropout=0.0), query_BR, list_BKC


@pytest.mark.parametrize("number", [2, 3, 7])
@pytest.mark.parametrize("hidden", [(), (16,)], ids=str)
def test_loss_and_gradient(number: int, hidden: tuple[int, ...]) -> None:
    router, query_BR, list_BKC = problem(hidden)
    router.eval()  # batch statistics are those of a part
    whole = routing_loss(router(query_BR), list_BKC)
    expected = torch.autograd.grad(whole, list(router.parameters()))
    divided = loss_over((CPU,) * number, router, query_BR, list_BKC)
    found = torch.autograd.grad(divided, list(router.parameters()))
    torch.testing.assert_close(divided, whole)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_statistics_of_batches_are_kept_once() -> None:
    router, query_BR, list_BKC = problem((16,))
    router.train()
    loss_over((CPU,) * 3, router, query_BR, list_BKC).backward()
    assert int(router.state_dict()["network.1.num_batches_tracked"]) == 1


def test_more_devices_than_queries() -> None:
    router, query_BR, list_BKC = problem((), queries=2)
    torch.testing.assert_close(
        loss_over((CPU,) * 5, router, query_BR, list_BKC), routing_loss(router(query_BR), list_BKC)
    )


def test_a_training_is_the_same_to_rounding() -> None:
    states = []
    for devices in ((), (CPU,) * 3):
        router, query_BR, list_BKC = problem((), queries=300)
        plan = FitPlan(3, 0.0, 64, 0.01, 0, choose_precision("fp32", CPU), devices=devices)
        states.append(fit(router, query_BR, list_BKC, plan).router)
    torch.testing.assert_close(states[0], states[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("number", [2, 3, 60])
def test_neighbours(number: int) -> None:
    torch.manual_seed(0)
    row_ND, own_Q = torch.randn(500, 8), torch.arange(50)
    blocks = [(start, row_ND[start : start + 130]) for start in range(0, 500, 130)]
    told: list[int] = []
    expected = nearest_in_blocks(row_ND[:50], blocks, 7, own_Q=own_Q)
    found = nearest_in_blocks(row_ND[:50], blocks, 7, own_Q=own_Q, devices=(CPU,) * number, advance=told.append)
    assert torch.equal(found, expected) and sum(told) == 500
    assert not (found == own_Q[:, None]).any()


def test_an_error_on_one_of_them_is_told() -> None:
    blocks = [(0, torch.randn(10, 8)), (10, torch.randn(10, 9))]
    with pytest.raises(RuntimeError):
        nearest_in_blocks(torch.randn(4, 8), blocks, 3, devices=(CPU,) * 2)


def test_the_cpu_is_one() -> None:
    assert devices_with(CPU) == (CPU,)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_all_gpus() -> None:
    first = torch.device("cuda", 0)
    devices = devices_with(first)
    assert devices[0] == first and len(devices) == torch.cuda.device_count()
    router, query_BR, list_BKC = problem(())
    whole = routing_loss(router(query_BR), list_BKC)
    divided = loss_over(devices, router.to(first), query_BR.to(first), list_BKC.to(first))
    torch.testing.assert_close(divided.cpu(), whole, rtol=1e-4, atol=1e-5)
