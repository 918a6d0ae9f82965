"""Query expansion and augmentation against loops in float64; in leave-one-out, against augmenting without the query."""

import pytest
import torch

from kinsight.errors import DataError
from kinsight.neighbors import AugmentedSet, augment_gallery, augmented, expand_queries, ranks


def vectors(items: int, seed: int = 0, dim: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(items, dim, generator=generator) * torch.rand(items, 1, generator=generator).add(0.1)


def unit(row_ND: torch.Tensor) -> torch.Tensor:
    row_ND = row_ND.double()
    return row_ND / row_ND.norm(dim=1, keepdim=True)


def moved_row(row_D: torch.Tensor, others_ND: torch.Tensor, k: int, alpha: float) -> torch.Tensor:
    """Radenovic et al. 2018: the sum over the nearest of (cosine to the power alpha) times vector, the row included."""
    cosine_N = others_ND @ row_D
    near = sorted(range(len(others_ND)), key=lambda g: (-float(cosine_N[g]), g))[:k]
    total_D = row_D.clone()
    for g in near:
        total_D += max(float(cosine_N[g]), 0.0) ** alpha * others_ND[g]
    return total_D / total_D.norm()


def without(row_ND: torch.Tensor, *left_out: int) -> torch.Tensor:
    return row_ND[[n for n in range(len(row_ND)) if n not in left_out]]


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.0), (5, 0.0), (5, 3.0), (30, 0.5)])
def test_queries_move_towards_their_nearest(k: int, alpha: float):
    query_QD, gallery_ND = vectors(20, 1), vectors(30, 2)
    found_QD = expand_queries(query_QD, gallery_ND, k, alpha=alpha)
    expected_QD = torch.stack([moved_row(row_D, unit(gallery_ND), k, alpha) for row_D in unit(query_QD)])
    assert found_QD.dtype == torch.float32
    torch.testing.assert_close(found_QD.double(), expected_QD, atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_a_row_of_a_gallery_is_not_its_own_neighbour(alpha: float):
    gallery_ND = vectors(40)
    found_ND = augment_gallery(gallery_ND, 4, alpha=alpha)
    unit_ND = unit(gallery_ND)
    expected_ND = torch.stack([moved_row(unit_ND[n], without(unit_ND, n), 4, alpha) for n in range(40)])
    torch.testing.assert_close(found_ND.double(), expected_ND, atol=1e-6, rtol=0)


def augmented_without(set_ND: torch.Tensor, query: int, k: int, alpha: float) -> torch.Tensor:
    """What the others become in a set that the query has never been in."""
    unit_ND = unit(set_ND)
    return torch.stack(
        [moved_row(unit_ND[n], without(unit_ND, n, query), k, alpha) for n in range(len(set_ND)) if n != query]
    )


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("parts", [1, 2**14])
def test_leave_one_out_is_augmenting_the_set_without_the_query(
    alpha: float, parts: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(augmented, "_PAIRS", parts)
    set_ND, k = vectors(30), 4
    found = AugmentedSet(set_ND, k, alpha=alpha)
    row_Q = torch.arange(30)
    scores = torch.cat([score_BN for _, score_BN in found.score_blocks(set_ND, row_Q, 4000)])
    for query in range(30):
        seen_ND = augmented_without(set_ND, query, k, alpha)
        expected_N = seen_ND @ unit(set_ND)[query]
        assert scores[query, query] == -torch.inf
        torch.testing.assert_close(without(scores[query][:, None], query)[:, 0], expected_N, atol=1e-6, rtol=0)
    # and it matters: in some rows the query's help was worth something
    assert (scores - unit(set_ND) @ found.vector_ND.double().T).abs().nan_to_num(posinf=0).max() > 0.01


def test_expanded_queries_meet_rows_without_their_own_help():
    set_ND, k = vectors(30), 4
    found_QD = AugmentedSet(set_ND, k, alpha=3.0).expanded(set_ND, torch.arange(30), 6, alpha=1.0)
    for query in range(30):
        seen_ND = augmented_without(set_ND, query, k, 3.0)
        expected_D = moved_row(unit(set_ND)[query], seen_ND, 6, 1.0)
        torch.testing.assert_close(found_QD[query].double(), expected_D, atol=1e-6, rtol=0)


def test_ranks_are_those_of_each_querys_own_set():
    set_ND, label_N = vectors(40), torch.arange(40) % 5
    row_Q = torch.tensor([3, 8, 9, 30])
    found = AugmentedSet(set_ND, 3).ranks(set_ND[row_Q], row_Q, label_N)
    for place, query in enumerate(row_Q.tolist()):
        seen_ND = augmented_without(set_ND, query, 3, 0.0)
        label_M = torch.tensor([int(label_N[n]) for n in range(40) if n != query])
        expected = ranks(set_ND[query][None], label_N[query][None], seen_ND.float(), label_M)
        own = slice(int(found.start_Q[place]), int(found.start_Q[place + 1]))
        assert torch.equal(found.rank_P[own], expected.rank_P)
        assert int(found.positives_Q[place]) == int(expected.positives_Q[0]) == 7


def test_ranks_end_where_they_are_told_to():
    set_ND, label_N = vectors(40), torch.arange(40) % 5
    both = AugmentedSet(set_ND, 3)
    whole = both.ranks(set_ND, torch.arange(40), label_N)
    found = both.ranks(set_ND, torch.arange(40), label_N, max_rank=torch.full((40,), 6), first_max_rank=20)
    for query in range(40):
        every = whole.rank_P[whole.start_Q[query] : whole.start_Q[query + 1]].tolist()
        expected = [rank for place, rank in enumerate(every) if rank <= 6 or (place == 0 and rank <= 20)]
        assert found.rank_P[found.start_Q[query] : found.start_Q[query + 1]].tolist() == expected


def test_bad_input():
    row_ND = vectors(6)
    with pytest.raises(DataError, match="k=6: must be from 1 to 5"):
        augment_gallery(row_ND, 6)
    with pytest.raises(DataError, match="k=5: must be from 1 to 4"):
        AugmentedSet(row_ND, 5)
    with pytest.raises(DataError, match="alpha=-1"):
        expand_queries(row_ND, row_ND, 1, alpha=-1)
    opposite_ND = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(DataError, match="row 0 and its neighbours cancel"):
        augment_gallery(opposite_ND, 1)
    assert torch.equal(augment_gallery(opposite_ND, 1, alpha=1.0), opposite_ND)
    row_ND[2, 1] = float("nan")
    with pytest.raises(DataError, match="row 2 holds NaN"):
        augment_gallery(row_ND, 2)
    with pytest.raises(DataError, match="row 2 holds NaN"):
        AugmentedSet(row_ND, 2)
