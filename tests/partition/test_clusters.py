"""Lists: k-means against scikit-learn's, prices, empty lists."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kinsight.partition.clusters import Clusters, balance, k_means
from kinsight.partition.measure import imbalance


def blobs(number: int = 600, dim: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(12, dim, generator=generator) * 4
    which = torch.randint(12, (number,), generator=generator) ** 2 // 12  # uneven
    return centre[which] + torch.randn(number, dim, generator=generator)


def made(vector_ND: Tensor, lists: int = 20, *, iterations: int = 15, spherical: bool = False) -> Clusters:
    generator = torch.Generator().manual_seed(3)
    return k_means(vector_ND, lists, iterations=iterations, spherical=spherical, generator=generator)


def test_vectors_belong_to_the_nearest_centre_by_squared_distance_and_price() -> None:
    vector_ND = blobs()
    clusters = Clusters(blobs(20, seed=1), torch.rand(20))
    list_N, distance_N = clusters.assign(vector_ND)
    square_NL = torch.cdist(vector_ND.double(), clusters.centre_LD.double()).square()
    torch.testing.assert_close(list_N, (square_NL + clusters.price_L).argmin(1))
    torch.testing.assert_close(
        distance_N.double(), square_NL.gather(1, list_N[:, None]).squeeze(1), rtol=1e-4, atol=1e-3
    )


def test_as_tight_as_scikit_learns() -> None:
    from sklearn.cluster import KMeans

    vector_ND = blobs()
    ours = made(vector_ND, iterations=40).assign(vector_ND)[1].sum()
    theirs = KMeans(20, n_init=1, init="random", random_state=0).fit(vector_ND.numpy()).inertia_
    assert ours <= 1.15 * theirs


def test_each_round_is_no_worse() -> None:
    vector_ND = blobs()
    sums = [float(made(vector_ND, iterations=rounds).assign(vector_ND)[1].sum()) for rounds in (1, 3, 9, 27)]
    assert all(after <= before * 1.001 for before, after in pairwise(sums))


def test_spherical_centres_have_length_one() -> None:
    vector_ND = torch.nn.functional.normalize(blobs(), dim=1)
    found = made(vector_ND, spherical=True)
    torch.testing.assert_close(found.centre_LD.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(found.assign(vector_ND)[0], (vector_ND @ found.centre_LD.T).argmax(1))


def test_no_list_stays_empty_while_others_have_several_kinds_of_vectors() -> None:
    vector_ND = torch.cat([torch.zeros(500, 4), torch.eye(4).repeat(25, 1) * 10])
    list_N, _ = made(vector_ND, 5, iterations=40).assign(vector_ND)
    assert len(list_N.unique()) == 5


def test_identical_vectors_are_taken() -> None:
    vector_ND = torch.ones(40, 4)
    list_N, distance_N = made(vector_ND, 8).assign(vector_ND)
    assert distance_N.max() < 1e-3 and int(list_N.min()) >= 0


def test_prices_even_out_large_lists_and_cost_little() -> None:
    vector_ND = torch.randn(3000, 8, generator=torch.Generator().manual_seed(0)) ** 3
    start = made(vector_ND, 40)
    found = balance(vector_ND, start, rounds=20, rate=0.02)
    before, after = start.assign(vector_ND), found.assign(vector_ND)
    sizes = [torch.bincount(each[0], minlength=40) for each in (before, after)]
    assert imbalance(sizes[1]) < 0.97 * imbalance(sizes[0])
    assert float(after[1].mean()) < 1.2 * float(before[1].mean())
    assert balance(vector_ND, start, rounds=0, rate=0.05).price_L.eq(0).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from kinsight.partition import clusters

    whole = made(blobs())
    monkeypatch.setattr(clusters, "_NUMBERS", 64)
    parts = made(blobs())
    torch.testing.assert_close(parts.centre_LD, whole.centre_LD)
