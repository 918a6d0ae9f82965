"""Mistakes, hard classes and confused pairs against a plain count."""

from collections import Counter

import numpy as np
import torch
from report_cases import clusters, evaluation

from kinsight.reports import mistakes
from kinsight.reports.mistakes import confused_pairs, find_mistakes, hardest_classes, right_Q
from kinsight.reports.words import headline_names

CPU = torch.device("cpu")


def test_mistakes_are_those_of_a_plain_search() -> None:
    found = evaluation(items := clusters(20, 5, spread=1.2))
    similarity_NN = (items.vector_ND.double() @ items.vector_ND.double().T).fill_diagonal_(-9)
    best_N = similarity_NN.argmax(1)
    wrong = (items.label_N[best_N] != items.label_N).nonzero().squeeze(1)
    got = find_mistakes(found, CPU)
    assert got.total == len(got) == len(wrong) > 10
    assert sorted(got.row_M.tolist()) == wrong.tolist()
    assert best_N[torch.from_numpy(got.row_M)].tolist() == got.found_M.tolist()
    assert (np.diff(got.similarity_M) <= 0).all()
    assert (right_Q(found) == 1).sum() == len(items) - len(wrong)
    pairs = confused_pairs(found, got, 99)
    label = items.label_N.tolist()
    directed = Counter((label[row], label[int(best_N[row])]) for row in wrong.tolist())
    assert sum(pair.there + pair.back for pair in pairs) == len(wrong)
    for pair in pairs:
        assert (pair.there, pair.back) == (directed[pair.first, pair.second], directed[pair.second, pair.first])
        ends = {label[got.row_M[pair.example]], label[got.found_M[pair.example]]}
        assert ends == {pair.first, pair.second} and pair.there >= pair.back
    sizes = [pair.there + pair.back for pair in pairs]
    assert sizes == sorted(sizes, reverse=True)
    hard = hardest_classes(found, 99)
    missed = Counter(label[row] for row in wrong.tolist())
    assert {one.label: round(5 * (1 - one.values["recall@1"])) for one in hard} == dict(missed)
    assert [one.values["recall@1"] for one in hard] == sorted(one.values["recall@1"] for one in hard)


def test_too_many_to_look_at_are_drawn_and_counted(monkeypatch) -> None:
    found = evaluation(clusters(100, 5, spread=3.0, dim=4))
    everything = find_mistakes(found, CPU)
    monkeypatch.setattr(mistakes, "_MOST_SIMILARITIES", 100 * 500)
    some, again = find_mistakes(found, CPU), find_mistakes(found, CPU)
    assert len(some) == 100 < some.total == everything.total
    assert set(some.row_M.tolist()) < set(everything.row_M.tolist())
    assert some.row_M.tolist() == again.row_M.tolist()


def test_no_mistake() -> None:
    found = evaluation(clusters(5, 4, spread=0.01))
    got = find_mistakes(found, CPU)
    assert got.total == len(got) == 0
    assert confused_pairs(found, got, 5) == [] == hardest_classes(found, 5)


def test_the_bounds_of_a_rate_are_no_rates_of_their_own():
    metrics = {"tpr@fpr=1e-1": 0.9, "tpr@fpr=1e-1.low": 0.8, "tpr@fpr=1e-1.high": 0.95, "tpr@fpr=1e-2": 0.5}
    assert headline_names(metrics) == ["tpr@fpr=1e-2"]
