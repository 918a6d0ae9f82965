import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight import metrics
from kinsight.errors import DataError


def all_pairs(label_N):
    same, different = set(), set()
    for i, j in itertools.combinations(range(len(label_N)), 2):
        (same if label_N[i] == label_N[j] else different).add((i, j))
    return same, different


@settings(max_examples=40, deadline=None)
@given(
    label=st.lists(st.integers(-2, 3), min_size=3, max_size=25),
    most=st.sampled_from([1, 5, 10_000]),
    seed=st.integers(0, 9),
)
def test_pairs_are_of_their_sort_distinct_and_complete_when_few(label, most, seed):
    label_N = torch.tensor(label)
    same, different = all_pairs(label_N)
    if not same or not different:
        return
    drawn = metrics.draw_pairs(torch.randn(len(label), 4), label_N, max_pairs=most, seed=seed)
    for pair_P2, everything in ((drawn.same_index_P2, same), (drawn.different_index_P2, different)):
        picked = [tuple(pair) for pair in pair_P2.tolist()]
        assert len(picked) == len(set(picked)) == min(most, len(everything))
        assert set(picked) <= everything
    assert (drawn.total_same, drawn.total_different) == (len(same), len(different))


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_similarities_belong_to_the_pairs(metric):
    generator = torch.Generator().manual_seed(0)
    emb_ND, label_N = torch.randn(50, 8, generator=generator), torch.arange(50) % 5
    drawn = metrics.draw_pairs(emb_ND, label_N, max_pairs=100, metric=metric)
    a_PD, b_PD = emb_ND[drawn.different_index_P2].double().unbind(1)
    expected_P = {
        "cosine": torch.nn.functional.cosine_similarity(a_PD, b_PD),
        "ip": (a_PD * b_PD).sum(1),
        "l2": -(a_PD - b_PD).square().sum(1),
    }[metric]
    assert torch.allclose(drawn.different_P.double(), expected_P, atol=1e-5)


def test_drawing_is_repeatable_and_spread():
    label_N = torch.arange(2000) % 50
    emb_ND = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    one = metrics.draw_pairs(emb_ND, label_N, max_pairs=5000, seed=7)
    two = metrics.draw_pairs(emb_ND, label_N, max_pairs=5000, seed=7)
    assert torch.equal(one.different_index_P2, two.different_index_P2)
    assert torch.equal(one.same_P, two.same_P)
    assert not torch.equal(one.same_index_P2, metrics.draw_pairs(emb_ND, label_N, max_pairs=5000, seed=8).same_index_P2)
    # uniform over pairs: the mean of both indices is near the middle
    assert abs(float(one.different_index_P2.double().mean()) - 999.5) < 40
    assert abs(float(one.same_index_P2.double().mean()) - 999.5) < 40


@pytest.mark.parametrize("label_N", [torch.zeros(5, dtype=torch.int64), torch.arange(5)])
def test_one_sort_alone_is_refused(label_N):
    with pytest.raises(DataError, match="needs both"):
        metrics.draw_pairs(torch.randn(5, 3), label_N)
