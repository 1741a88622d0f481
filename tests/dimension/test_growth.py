"""Graph lengths: the tree against another algorithm, the power law, known dimensions and a fractal."""

import math

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from lodim.dimension import growth
from lodim.dimension.growth import _slope_dimension, graph_length_dimension, tree_dimension
from lodim.geometry import IntrinsicDimension


def test_single_linkage_is_the_minimum_spanning_tree():
    D = pdist(np.random.default_rng(0).normal(size=(120, 3)))
    tree = minimum_spanning_tree(squareform(D)).data
    np.testing.assert_allclose(np.sort(linkage(D, "single")[:, 2]), np.sort(tree), rtol=1e-12)


@pytest.mark.parametrize("d", [1.5, 4])
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_the_slope_is_solved_for_the_dimension(d, gamma):
    found = _slope_dimension(
        lambda rows: 3 * len(rows) ** ((d - gamma) / d), 1000, 10, gamma, np.random.default_rng(0)
    )
    assert found == pytest.approx(d, rel=1e-9)


def test_a_length_that_outgrows_its_points_has_no_dimension():
    assert _slope_dimension(lambda rows: len(rows) ** 1.2, 500, 10, 1.0, np.random.default_rng(0)) == math.inf


@pytest.mark.parametrize("d", [1, 2, 4])
def test_known_dimensions(d):
    X = np.random.default_rng(d).uniform(size=(1000, d))
    assert tree_dimension(X, random_state=0) == pytest.approx(d, rel=0.1)
    assert graph_length_dimension(X, random_state=0) == pytest.approx(d, rel=0.15)


def test_a_fractal_has_its_dimension():
    """Points of the Sierpinski triangle, log 3 / log 2."""
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [1, 0], [0.5, 0.8]])
    X = sum(corners[rng.integers(3, size=1500)] / 2**level for level in range(1, 25))
    assert tree_dimension(X, random_state=0) == pytest.approx(math.log(3) / math.log(2), rel=0.06)


def test_large_data_are_sampled_and_said(monkeypatch):
    X = np.random.default_rng(0).uniform(size=(900, 2))
    monkeypatch.setattr(growth, "TREE_POINTS", 300)
    monkeypatch.setattr(growth, "GRAPH_POINTS", 300)
    assert tree_dimension(X, random_state=0) == pytest.approx(2, rel=0.25)
    assert graph_length_dimension(X, random_state=0) == pytest.approx(2, rel=0.25)


def test_duplicates_scale_and_seeds():
    X = np.random.default_rng(0).uniform(size=(200, 3))
    for method in ("knn", "ph"):
        plain = IntrinsicDimension(method, random_state=1).fit(X).dimension_
        doubled = IntrinsicDimension(method, random_state=1).fit(np.vstack([X, X[:50]]))
        assert doubled.n_duplicates_ == 50
        assert doubled.dimension_ == pytest.approx(plain, rel=0.15)
        assert IntrinsicDimension(method, random_state=1).fit(X * 1e3).dimension_ == pytest.approx(
            plain, rel=1e-6
        )
        assert IntrinsicDimension(method, random_state=1).fit(X).dimension_ == plain
    with pytest.raises(ValueError, match="too few to watch"):
        tree_dimension(X[:11])
    with pytest.raises(ValueError, match="gamma"):
        tree_dimension(X, -1.0)
