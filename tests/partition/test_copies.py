"""Redundancy rules against loops over all pairs."""

from itertools import product

import pytest
import torch
from torch import Tensor

from kinsight.partition.clusters import Clusters
from kinsight.partition.copies import (
    Candidates,
    by_misses,
    by_probability,
    by_ratio,
    by_residual,
    place,
)
from kinsight.partition.ratio import further


def pairs(found: Candidates) -> dict[tuple[int, int], float]:
    keys = list(zip(found.vector_E.tolist(), found.list_E.tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, found.gain_E.tolist(), strict=True))


def test_misses_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    list_N = torch.randint(6, (30,), generator=generator)
    probe_QP = torch.stack([torch.randperm(6, generator=generator)[:2] for _ in range(25)])
    near_QK = torch.stack([torch.randperm(30, generator=generator)[:5] for _ in range(25)])
    near_QK[3, 2:] = -1
    wanted: dict[tuple[int, int], float] = {}
    for query, (rank, weight) in product(range(25), enumerate([1.5, 1.25, 1.0, 0.75, 0.5])):
        vector = int(near_QK[query, rank])
        if vector >= 0 and int(list_N[vector]) not in probe_QP[query].tolist():
            for probe in probe_QP[query].tolist():
                wanted[vector, probe] = wanted.get((vector, probe), 0) + weight
    assert pairs(by_misses(probe_QP, near_QK, list_N, 6)) == pytest.approx(wanted)


def test_the_ratio_rule_takes_the_nearest_runners_up_of_all_vectors_together() -> None:
    score_NL = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.79, 0.7], [0.2, 0.3, 0.9]])
    found = further(score_NL, Clusters(torch.eye(3), torch.zeros(3)), fuzzy=3, cosine=True)
    list_NC = place(found.list_N.long(), by_ratio(found), budget=1.0)
    extra = {(row, int(each)) for row in range(3) for each in list_NC[row, 1:] if each >= 0}
    assert extra == {(1, 1), (1, 2), (0, 2)}  # ratios 0.99, 0.875, 0.56 of all six


@pytest.mark.parametrize("parallel", [False, True])
def test_residual_rules_against_their_formulas(parallel: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    vector_ND = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    centre_LD = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    clusters = Clusters(centre_LD, torch.zeros(7, dtype=torch.float64))
    list_N = torch.cdist(vector_ND, centre_LD).argmin(1)
    found = by_residual(vector_ND, clusters, list_N, weight=1.5, parallel=parallel)
    for row in range(20):
        own = vector_ND[row] - centre_LD[list_N[row]]
        losses = []
        for other in range(7):
            rest = vector_ND[row] - centre_LD[other]
            along = (rest @ own / own.norm()) ** 2 if parallel else rest @ own
            losses.append(float("inf") if other == list_N[row] else float(rest @ rest + 1.5 * along))
        assert int(found.list_E[row]) == min(range(7), key=losses.__getitem__)
        assert float(found.gain_E[row]) == pytest.approx(-min(losses) / float(own @ own))


def test_probability_takes_other_lists_alone() -> None:
    log_NL = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]).log()
    found = pairs(by_probability(log_NL, torch.tensor([1, 1]), fuzzy=2))
    assert set(found) == {(0, 0), (1, 2)}


@pytest.mark.parametrize("budget", [0.0, 0.3, 1.0, 9.0])
def test_the_budget_is_the_mean_number_of_copies(budget: float) -> None:
    generator = torch.Generator().manual_seed(2)
    list_N = torch.randint(10, (200,), generator=generator)
    found = by_probability(torch.rand(200, 10, generator=generator).log(), list_N, fuzzy=4)
    list_NC = place(list_N, found, budget, most=2)
    copies = int((list_NC[:, 1:] >= 0).sum())
    most = int(sum(min(2, count) for count in torch.bincount(found.vector_E, minlength=200).tolist()))
    assert copies == min(round(budget * 200), most)
    assert (list_NC[:, 0] == list_N).all()
    for row in list_NC.tolist():
        held = [each for each in row if each >= 0]
        assert len(set(held)) == len(held)


def test_without_candidates_vectors_stay_where_they_are() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    list_N = torch.arange(4)
    empty: Tensor = place(list_N, Candidates(nothing, nothing, torch.zeros(0)), 1.0)
    assert empty.tolist() == [[0], [1], [2], [3]]
