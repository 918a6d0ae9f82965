"""The ratio rule in blocks against the rule at once, and the nearest vector in lists against a loop."""

import pytest
import torch

from kinsight.partition.clusters import Clusters
from kinsight.partition.copies import Candidates, place
from kinsight.partition.ratio import Further, copies_at, further, fuzzy_of, ranks
from kinsight.partition.seek import Best, Visits, best_in_block, entries_of


def mixture(number: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


def at_once(score_NL: torch.Tensor, list_N: torch.Tensor) -> Candidates:
    """The rule with all similarities in memory."""
    best_NF, list_NF = score_NL.topk(3, dim=1)
    row_E, place_E = (list_NF != list_N[:, None]).nonzero(as_tuple=True)
    gain_NF = best_NF / best_NF[:, :1]
    return Candidates(row_E, list_NF[row_E, place_E], gain_NF[row_E, place_E])


@pytest.mark.parametrize("percent", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("priced", [False, True])
def test_in_blocks_as_at_once(percent: float, priced: bool) -> None:
    row_NR = torch.nn.functional.normalize(mixture(500), dim=1)
    centre_LD = torch.nn.functional.normalize(mixture(12, seed=1), dim=1)
    clusters = Clusters(centre_LD, 0.3 * torch.rand(12, generator=torch.Generator().manual_seed(2)) * priced)
    parts = [further(part, clusters, fuzzy=3, cosine=True) for part in row_NR.split(130)]
    found = Further.joined(parts)
    ours = copies_at(found, ranks(found, 3), percent)
    list_N, _ = clusters.assign(row_NR)
    theirs = place(list_N, at_once(row_NR @ centre_LD.T, list_N), percent)
    assert ours[:, 0].tolist() == list_N.tolist()
    for mine, other in zip(ours.tolist(), theirs.tolist(), strict=True):
        assert {each for each in mine if each >= 0} == {each for each in other if each >= 0}
    assert (ours >= 0).sum() == round((1 + percent) * 500)


def test_distances_rank_by_the_ratio_of_distances() -> None:
    clusters = Clusters(torch.tensor([[0.0], [1.0], [10.0]]), torch.zeros(3))
    found = further(torch.tensor([[0.4], [0.1], [5.6]]), clusters, fuzzy=3, cosine=False)
    assert found.list_N.tolist() == [0, 0, 2]
    copies = copies_at(found, ranks(found, 3), 2 / 3)
    # 5.6: (4.4 / 4.6)^2; 0.4: (0.4 / 0.6)^2 = 0.44; 5.6 to 0: (4.4 / 5.6)^2 = 0.62; 0.1: (0.1 / 0.9)^2
    assert copies.tolist() == [[0, -1, -1, -1], [0, -1, -1, -1], [2, -1, 1, 0]]


def test_a_budget_of_more_copies_considers_more_lists() -> None:
    assert [fuzzy_of(percent) for percent in (0.0, 1.5, 2.0, 2.1, 3.0, 9.0)] == [3, 3, 3, 4, 4, 10]


@pytest.mark.parametrize("block", [37, 1000])
def test_the_nearest_in_lists_against_a_loop(block: int) -> None:
    row_NR, query_QR, clusters = mixture(400), mixture(30, seed=3), Clusters(mixture(9, seed=4), torch.zeros(9))
    found = further(row_NR, clusters, fuzzy=3, cosine=False)
    rank_NF, probes, percents = ranks(found, 3), [1, 2, 5], [0.0, 0.5, 1.5]
    order_QL = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(q))[:5] for q in range(30)])
    visits, taken = Visits.of(order_QL, probes), [round(each * 400) for each in percents]
    best = Best.none(30, 3, 3)
    for first in range(0, 400, block):
        here = slice(first, first + block)
        entries = entries_of(found.list_N[here], found.other_NF[here], rank_NF[here], taken)
        best.take(best_in_block(query_QR, visits, row_NR[here], first, entries, (3, 3)))
    row_QPS = best.summed()
    for at, percent in enumerate(percents):
        lists_NC = copies_at(found, rank_NF, percent).tolist()
        for step, probe in enumerate(probes):
            for query in range(30):
                looked = set(order_QL[query, :probe].tolist())
                there = [row for row in range(400) if looked & {each for each in lists_NC[row] if each >= 0}]
                if not there:
                    assert row_QPS[query, step, at] == -1
                    continue
                distance = (row_NR[there] - query_QR[query]).square().sum(1)
                assert row_QPS[query, step, at] == there[int(distance.argmin())], (query, probe, percent)


def test_of_equal_ones_the_lower_row() -> None:
    row_NR, query_QR, clusters = torch.ones(8, 2), torch.ones(1, 2), Clusters(torch.ones(1, 2), torch.zeros(1))
    found = further(row_NR, clusters, fuzzy=1, cosine=False)
    best = Best.none(1, 1, 1)
    for first in (4, 0):
        here = slice(first, first + 4)
        entries = entries_of(found.list_N[here], found.other_NF[here], ranks(found, 1)[here], [0])
        visits = Visits.of(torch.zeros(1, 1, dtype=torch.int64), [1])
        best.take(best_in_block(query_QR, visits, row_NR[here], first, entries, (1, 1)))
    assert best.summed().item() == 0
