"""Lists of greatest score, proposed by rounded products and decided by float32 ones."""

import pytest
import torch

from kinsight.indexing.list_scores import ListScores
from kinsight.neighbors.coarse import has_int8

LISTS, DIM, QUERIES, WANTED = 4096, 48, 700, 12


def made(lists: int = LISTS) -> tuple[ListScores, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores as of squared distances to centres that lie about a place far from zero."""
    random = torch.Generator().manual_seed(0)
    spread = torch.linspace(3, 0.1, DIM)
    centre_LD = 20 + torch.randn(lists, DIM, generator=random) * spread
    query_QD = 20 + torch.randn(QUERIES, DIM, generator=random) * spread
    bias_L = -centre_LD.square().sum(1) / 2
    return ListScores(centre_LD, bias_L, centre_LD.mean(0)), centre_LD, bias_L, query_QD


def shared(found_QP: torch.Tensor, true_QP: torch.Tensor) -> float:
    return float((found_QP[:, :, None] == true_QP[:, None, :]).any(2).float().mean())


def test_they_are_those_of_float32_products() -> None:
    scores, weight_LD, bias_L, query_QD = made()
    true_QP = torch.addmm(bias_L, query_QD, weight_LD.T).topk(WANTED).indices
    found_QP = scores.greatest(query_QD, WANTED, None)
    assert shared(found_QP, true_QP) > 0.999
    assert (found_QP == true_QP).float().mean() > 0.99  # in their order, but for near ties
    if has_int8(query_QD.device):  # which the rounded products alone do not give
        rounded_QP = scores._coded(query_QD).topk(WANTED).indices
        assert 0.8 < shared(rounded_QP, true_QP) < 0.998


def test_few_queries_and_few_lists_find_them_too() -> None:
    scores, weight_LD, bias_L, query_QD = made()
    true_QP = torch.addmm(bias_L, query_QD, weight_LD.T).topk(WANTED).indices
    assert shared(scores.greatest(query_QD[:3], WANTED, None), true_QP[:3]) == 1
    assert shared(scores.greatest(query_QD, LISTS, None)[:, :WANTED], true_QP) == 1
    few, weight_LD, bias_L, query_QD = made(64)
    expected_QP = torch.addmm(bias_L, query_QD, weight_LD.T).topk(WANTED).indices
    assert shared(few.greatest(query_QD, WANTED, None), expected_QP) == 1


@pytest.mark.parametrize("lists", [64, LISTS])
def test_lists_that_are_gone_come_last(lists: int) -> None:
    scores, weight_LD, bias_L, query_QD = made(lists)
    gone_L = torch.rand(lists, generator=torch.Generator().manual_seed(1)) < 0.5
    score_QL = torch.addmm(bias_L, query_QD, weight_LD.T).masked_fill(gone_L, -torch.inf)
    found_QP = scores.greatest(query_QD, WANTED, gone_L)
    assert not gone_L[found_QP].any()
    assert shared(found_QP, score_QL.topk(WANTED).indices) > 0.999
