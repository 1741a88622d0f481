"""Distances of found neighbours: products where their rounding is bounded, differences elsewhere, the same to 5e-12."""

import numpy as np
import pytest

from lodim.neighbors import distances, pair_distances
from lodim.neighbors.distances import _around_origin


def clouds():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(60, 100))
    near = plain.copy()
    near[30:] = near[:30] + 1e-7 * rng.normal(size=(30, 100))
    return {
        "plain": plain,
        "single": plain.astype(np.float32),
        "near repeats": near,
        "off centre": plain + 1e6,
        "one far point": np.vstack([plain, 1e7 * np.ones((1, 100))]),
    }


@pytest.mark.parametrize("name", clouds())
def test_distances_are_right_in_double_precision(name):
    X = clouds()[name]
    n = len(X)
    idx = np.argsort(np.random.default_rng(1).random((n, n)), axis=1)[:, :20]
    exact = np.linalg.norm(X[:, None].astype(np.longdouble) - X[idx], axis=2)
    found = pair_distances(X, np.arange(n), idx)
    inside = exact > 0
    np.testing.assert_allclose(found[inside], exact[inside].astype(np.float64), rtol=5e-12)
    assert (found[~inside] == 0).all()


def test_both_ways_are_taken(monkeypatch):
    taken = []
    original = distances._squares_by_product
    monkeypatch.setattr(distances, "_squares_by_product", lambda *a: taken.append(1) or original(*a))
    X = np.random.default_rng(0).normal(size=(30, 100))
    idx = np.arange(30)[::-1, None].copy()
    pair_distances(X, np.arange(30), idx)
    assert len(taken) == 1
    pair_distances(X[:, :20].copy(), np.arange(30), idx)  # few columns
    pair_distances(X + 100, np.arange(30), idx)  # far from the origin
    assert len(taken) == 1
    assert _around_origin(X)
    assert not _around_origin(X + 100)


def test_ties_of_whole_numbers_stay_ties():
    X = np.random.default_rng(0).integers(0, 2, size=(80, 100)).astype(float)
    idx = np.tile(np.arange(80), (80, 1))
    found = pair_distances(X, np.arange(80), idx)
    differing = (X[:, None] != X[None]).sum(2)
    np.testing.assert_array_equal(found, np.sqrt(differing))


def test_no_columns_are_refused():
    with pytest.raises(ValueError, match="X must have columns"):
        pair_distances(np.ones((3, 0)), np.array([0]), np.array([[1]]))
