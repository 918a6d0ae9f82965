"""Principal components, whitening and first dimensions against their definitions."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from kinsight.errors import DataError, SpecError
from kinsight.neighbors import fit_projection, projection, shortened


def vectors(items: int = 200, dim: int = 10, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed_DD = torch.randn(dim, dim, generator=generator)
    return torch.randn(items, dim, generator=generator) @ mixed_DD + 1


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("dim", [None, 4])
def test_equals_scikit_learn_but_for_signs(whiten: bool, dim: int | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(projection, "_ROWS", 33)
    fitted_ND, other_ND = vectors(), vectors(20, seed=1)
    found = fit_projection(fitted_ND, dim, whiten=whiten, normalize=False)
    peer = PCA(dim, whiten=whiten, svd_solver="full").fit(fitted_ND.double().numpy())
    expected_NE = peer.transform(other_ND.double().numpy())
    assert np.allclose(np.abs(found(other_ND).numpy()), np.abs(expected_NE), atol=1e-4)
    assert np.isclose(found.kept, peer.explained_variance_ratio_.sum())


def test_by_direction_lengths_count_for_nothing():
    fitted_ND, other_ND = vectors(), vectors(20, seed=1)
    found = fit_projection(fitted_ND, 6, whiten=True)
    scaled = fit_projection(fitted_ND * torch.rand(200, 1).add(0.5), 6, whiten=True)
    torch.testing.assert_close(found(other_ND), scaled(other_ND * 7), atol=1e-4, rtol=0)
    torch.testing.assert_close(found(other_ND).norm(dim=1), torch.ones(20))


def test_shrinkage_is_an_epsilon():
    fitted_ND, other_ND = vectors(8), vectors(20, seed=1)
    found = fit_projection(fitted_ND, whiten=True, shrinkage=0.25, normalize=False)
    off_ND = fitted_ND.double() - fitted_ND.double().mean(0)
    covariance_DD = off_ND.T @ off_ND / 7
    epsilon = 0.25 / 0.75 * covariance_DD.trace() / 10
    inverse_DD = torch.linalg.inv(0.75 * (covariance_DD + epsilon * torch.eye(10).double()))
    one, two = (found(other_ND).double(), other_ND.double() - fitted_ND.double().mean(0))
    torch.testing.assert_close(one @ one.T, two @ inverse_DD @ two.T, atol=1e-3, rtol=1e-4)


def test_first_dimensions_keep_the_whole_length():
    row_ND = vectors()
    found_ND = shortened(row_ND, 3)
    torch.testing.assert_close(found_ND.norm(dim=1), row_ND.norm(dim=1))
    torch.testing.assert_close(
        torch.nn.functional.normalize(found_ND), torch.nn.functional.normalize(row_ND[:, :3]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(shortened(row_ND, 10), row_ND)
    assert not shortened(torch.zeros(2, 4), 2).any()


def test_bad_input():
    row_ND = vectors()
    with pytest.raises(SpecError, match="is 11, the vectors have 10 dimensions"):
        fit_projection(row_ND, 11)
    with pytest.raises(SpecError, match="is 11, the vectors have 10 dimensions"):
        shortened(row_ND, 11)
    with pytest.raises(DataError, match="10 vectors are too few to whiten 10 dimensions by; 11 are needed"):
        fit_projection(row_ND[:10], whiten=True)
    fit_projection(row_ND[:10], 9, whiten=True, normalize=False)
    flat_ND = row_ND.clone()
    flat_ND[:, 3] = 0
    with pytest.raises(DataError, match="vary in 9 dimensions only; 10 are to be whitened"):
        fit_projection(flat_ND, whiten=True, normalize=False)
    with pytest.raises(DataError, match="all vectors to fit on are the same"):
        fit_projection(torch.ones(5, 3))
    with pytest.raises(DataError, match="row 1 falls on the mean"):
        fit_projection(torch.tensor([[1.0, 0], [-1, 0]]), 1)(torch.tensor([[1.0, 1], [0, 1]]))
    with pytest.raises(DataError, match="row 1 is zero in its first 2 dimensions"):
        shortened(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), 2)
    with pytest.raises(DataError, match="have 3 dimensions, the projection was fitted on 10"):
        fit_projection(row_ND)(torch.ones(2, 3))
    row_ND[4, 0] = float("nan")
    with pytest.raises(DataError, match="row 4 holds NaN"):
        fit_projection(row_ND)
    with pytest.raises(DataError, match="row 4 holds NaN"):
        shortened(row_ND, 2)
