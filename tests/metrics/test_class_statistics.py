import time

import pytest
import torch

from kinsight import metrics
from kinsight.errors import DataError


def test_class_table_by_hand():
    class_Q = torch.tensor([5, 2, 5, 2, 9])
    recall_Q = torch.tensor([1.0, 0.0, 0.0, 1.0, torch.nan], dtype=torch.float64)
    table = metrics.class_table(class_Q, {"recall@1": recall_Q, "map@r": recall_Q / 2}, ["recall@1", "map@r"])
    assert table.class_C.tolist() == [2, 5]
    assert table.count_C.tolist() == [2, 2]
    assert table.column["recall@1"].tolist() == [0.5, 0.5]
    assert table.column["map@r"].tolist() == [0.25, 0.25]


def test_intervals_equal_a_naive_cluster_bootstrap():
    generator = torch.Generator().manual_seed(3)
    class_Q = torch.randint(20, (300,), generator=generator)
    value_Q = torch.rand(300, generator=generator, dtype=torch.float64) * (class_Q % 3)
    interval = metrics.bootstrap_intervals(class_Q, {"x": value_Q}, resamples=4000, seed=1)["x"]
    draw = torch.Generator().manual_seed(99)
    means = []
    for _ in range(4000):
        picked = torch.randint(20, (20,), generator=draw)
        chosen = torch.cat([value_Q[class_Q == c] for c in picked.tolist()])
        means.append(float(chosen.mean()))
    low, high = torch.quantile(torch.tensor(means, dtype=torch.float64), torch.tensor([0.025, 0.975]).double()).tolist()
    assert interval.low == pytest.approx(low, abs=0.03)
    assert interval.high == pytest.approx(high, abs=0.03)
    assert interval.low < float(value_Q.mean()) < interval.high


def test_intervals_are_deterministic_and_wider_over_classes_than_over_queries():
    class_Q = torch.arange(1000) % 10
    value_Q = (class_Q < 5).double()
    first = metrics.bootstrap_intervals(class_Q, {"x": value_Q}, seed=4)["x"]
    assert first == metrics.bootstrap_intervals(class_Q, {"x": value_Q}, seed=4)["x"]
    by_query = metrics.bootstrap_intervals(torch.arange(1000), {"x": value_Q}, seed=4)["x"]
    assert first.high - first.low > 5 * (by_query.high - by_query.low)


def test_a_thousand_resamples_of_sixty_thousand_queries_are_quick():
    class_Q = torch.arange(60_000) % 15_000
    per_query = {name: torch.rand(60_000, dtype=torch.float64) for name in "abcd"}
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        metrics.bootstrap_intervals(class_Q, per_query)
        best = min(best, time.process_time() - start)
    assert best < 4  # processor seconds of all threads, several times what it takes


@pytest.mark.parametrize("classes", [1, 5, 9])
def test_few_classes_have_no_interval(classes):
    """Where five classes are all right, every resample is: 100 % to 100 % would be a false certainty."""
    class_Q = torch.arange(classes).repeat_interleave(5)
    with pytest.raises(DataError, match=f"{classes} classes with matches .* intervals need 10"):
        metrics.bootstrap_intervals(class_Q, {"x": torch.ones(len(class_Q), dtype=torch.float64)})
