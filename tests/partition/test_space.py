"""From users' vectors to routed ones: inner products of vectors and queries of any length."""

import pytest
import torch

from kinsight.errors import DataError
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
