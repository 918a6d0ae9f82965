"""From users' vectors to routed ones: inner products of vectors and queries of any length."""

from dataclasses import replace

import pytest
import torch

from kinsight.errors import DataError
from kinsight.neighbors import Metric, fit_projection
from kinsight.partition.space import Space, fit_space


def vectors(uneven: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    vector_ND = torch.nn.functional.normalize(torch.randn(300, 8, generator=generator), dim=1) * 3
    return vector_ND * (0.5 + torch.rand(300, 1, generator=generator)) if uneven else vector_ND


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_nearest_row_is_the_one_of_largest_product_whatever_the_querys_length(uneven: bool, scale: float) -> None:
    vector_ND = vectors(uneven)
    query_QD = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    space = fit_space(vector_ND, "ip", None)
    assert (space.longest > 0) == uneven
    distance_QN = torch.cdist(space.queries(scale * query_QD), space.rows(vector_ND))
    product_QN = query_QD @ vector_ND.T
    found_Q = product_QN.gather(1, distance_QN.argmin(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(found_Q, product_QN.max(1).values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(space.queries(scale * query_QD), space.queries(query_QD), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("uneven", [False, True])
def test_longer_vectors_than_were_learned_from_are_refused(uneven: bool) -> None:
    space = fit_space(vectors(uneven), "ip", 4)
    again = Space.from_tensors("ip", 8, space.tensors())
    assert again.longest == space.longest and again.even == space.even
    with pytest.raises(DataError, match="has length"):
        again.rows(20 * vectors(uneven))


def test_the_longest_of_all_decides() -> None:
    some_ND = vectors(False)
    space = fit_space(some_ND, "ip", None, torch.tensor([3.0, 3.0, 9.0], dtype=torch.float64))
    assert space.longest == 9
    space.rows(some_ND * 3)


def flat_and_rest(rows: int, seed: int) -> torch.Tensor:
    """Four strong directions, twelve weak ones whose length differs from row to row, all turned at random."""
    generator = torch.Generator().manual_seed(seed)
    strong_N4 = 10 * torch.randn(rows, 4, generator=generator)
    weak_NW = torch.randn(rows, 12, generator=generator) * 5 * torch.rand(rows, 1, generator=generator)
    turn_DD = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(9)))[0]
    return torch.cat([strong_N4, weak_NW], 1) @ turn_DD + 100


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_the_last_number_is_the_length_of_what_components_leave_out(metric: Metric) -> None:
    vector_ND = flat_and_rest(400, 0).double()
    space = fit_space(vector_ND, metric, 5)
    assert space.projection is not None and space.likeness is not None and 0 <= space.likeness <= 1
    assert space.projection.axes_DE.shape[1] == 4 and space.routed_dim == 5
    for routed_NR, whole_ND, share in (
        (space.rows(vector_ND), space.whole.rows(vector_ND), 1.0),
        (space.queries(vector_ND), space.whole.queries(vector_ND), space.likeness),
    ):
        centred_ND = whole_ND.double() - space.projection.mean_D
        component_NE = centred_ND @ space.projection.axes_DE
        rest_N = (centred_ND - component_NE @ space.projection.axes_DE.T).norm(dim=1)
        expected_NR = torch.cat([component_NE, share * rest_N[:, None]], 1)
        torch.testing.assert_close(routed_NR.double(), expected_NR, rtol=1e-3, atol=1e-3 * float(rest_N.mean()))


def test_what_is_left_out_helps_to_find_neighbours() -> None:
    vector_ND, query_QD = flat_and_rest(3000, 1), flat_and_rest(200, 2)
    near_QK = torch.cdist(query_QD, vector_ND).topk(10, largest=False).indices
    whole = fit_space(vector_ND, "l2", None)
    without = replace(whole, projection=fit_projection(vector_ND, 4, normalize=False))

    def missed(space: Space) -> float:
        distance_QN = torch.cdist(space.queries(query_QD), space.rows(vector_ND))
        candidate_QC = distance_QN.topk(40, largest=False).indices
        return 1 - float((near_QK[:, :, None] == candidate_QC[:, None, :]).any(2).float().mean())

    assert missed(fit_space(vector_ND, "l2", 5)) < 0.8 * missed(without)


def test_queries_of_another_kind_share_less_of_what_is_left_out() -> None:
    vector_ND = flat_and_rest(2000, 3)
    near_ND = vector_ND + 0.1 * torch.randn(vector_ND.shape, generator=torch.Generator().manual_seed(4))
    alike = fit_space(vector_ND, "l2", 5, query_QD=near_ND).likeness
    other = fit_space(vector_ND, "l2", 5, query_QD=flat_and_rest(2000, 5)).likeness
    assert alike is not None and other is not None and alike > other


def test_a_space_of_one_component_and_one_without_remainder_come_back() -> None:
    vector_ND = flat_and_rest(300, 6)
    for space in (fit_space(vector_ND, "l2", 1), fit_space(vector_ND, "l2", 5), fit_space(vector_ND, "l2", None)):
        again = Space.from_tensors("l2", 16, space.tensors())
        assert again.routed_dim == space.routed_dim and again.likeness == space.likeness
        assert torch.equal(again.queries(vector_ND), space.queries(vector_ND))
