"""Very sparse signs: the law of the entries, the layout, the empty columns."""

import pytest
import torch

from lodim.sketch import Sparse


def test_density_is_that_asked_for():
    D, d = 2500, 200
    for density, p in ((None, 1 / 50), (0.1, 0.1)):
        share = float((Sparse(D, d, density=density, seed=1).matrix() != 0).double().mean())
        assert abs(share - p) < 5 * (p / (D * d)) ** 0.5


def test_entries_are_independent_signs_of_their_places():
    D, d, n = 16, 4, 800
    samples = torch.stack([Sparse(D, d, seed=s, dtype=torch.float64).matrix() for s in range(n)])
    filled = (samples != 0).double()
    # one entry in four, except that empty columns (chance 0.75^16 = 1%) are given one entry
    expected = 0.25 + 0.75**D / D
    assert (filled.mean(0) - expected).abs().max() < 5 * (0.25 * 0.75 / n) ** 0.5
    assert samples.sign().mean(0).abs().max() < 5 * (0.25 / n) ** 0.5
    covariance = torch.cov(filled[:, :, 0].T)
    off = covariance - covariance.diag().diag()
    assert off.abs().max() < 5 * 0.25 * 0.75 / n**0.5


def test_entries_of_a_column_have_one_size():
    P = Sparse(900, 20, seed=1).matrix()
    for column in P.T:
        values = column[column != 0].abs()
        torch.testing.assert_close(values, values[:1].expand_as(values))


def test_no_column_is_empty():
    for seed in range(200):
        assert (Sparse(4, 3, seed=seed).matrix() != 0).any(0).all()


def test_full_density():
    P = Sparse(30, 5, density=1.0, seed=1).matrix()
    torch.testing.assert_close(P.abs(), torch.full((30, 5), 30**-0.5))


def test_rows_without_entries_produce_zeros():
    projection = Sparse(400, 2, seed=1)
    P = projection.matrix()
    empty = (P == 0).all(1)
    assert empty.sum() > 300
    assert (projection(torch.ones(3, 2))[:, empty] == 0).all()


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5])
def test_impossible_densities(density):
    with pytest.raises(ValueError, match="density must be"):
        Sparse(10, 2, density=density)
