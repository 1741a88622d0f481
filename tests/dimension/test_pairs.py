"""Pair counts against loops; Fisher separability against the sphere it models."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from lodim.dimension.pairs import (
    correlation_curve,
    correlation_dimension,
    fisher_separability,
)
from lodim.neighbors import NeighborGraph


@pytest.fixture(scope="module")
def cloud():
    return np.random.default_rng(0).normal(size=(500, 4))


def test_correlation_integral_counts_pairs(cloud):
    radii = np.linspace(0.1, 6, 30)
    expected = [(pdist(cloud) < r).mean() for r in radii]
    np.testing.assert_allclose(correlation_curve(cloud, radii), expected, rtol=1e-12)
    rows = np.arange(0, 500, 7)
    squares = cdist(cloud[rows], cloud)
    expected = [((squares < r).sum() - len(rows)) / (len(rows) * 499) for r in radii]
    np.testing.assert_allclose(correlation_curve(cloud, radii, rows), expected, rtol=1e-12)


def test_correlation_dimension_is_the_slope(cloud):
    graph = NeighborGraph.from_data(cloud, 20)
    r1, r2 = np.median(graph.dist[:, 9]), np.median(graph.dist[:, 19])
    c1, c2 = (int((pdist(cloud) < r).sum()) for r in (r1, r2))
    assert correlation_dimension(cloud, graph) == pytest.approx(
        math.log(c2 / c1) / math.log(r2 / r1), rel=1e-12
    )
    doubled = np.vstack([cloud, cloud[:100]])
    again = correlation_dimension(doubled, NeighborGraph.from_data(doubled, 20))
    assert again == pytest.approx(correlation_dimension(cloud, graph), rel=1e-12)
    with pytest.raises(ValueError, match="k1=20"):
        correlation_dimension(cloud, graph, 20, 20)


@pytest.mark.parametrize("d", [1, 2])
def test_uniform_sets_have_their_dimension(d):
    X = np.random.default_rng(1).uniform(size=(2000, d))
    assert correlation_dimension(X, NeighborGraph.from_data(X, 20)) == pytest.approx(d, rel=0.05)


@pytest.mark.parametrize("n", [5, 8, 12])
def test_fisher_dimension_of_a_sphere(n):
    X = np.random.default_rng(n).normal(size=(4000, n))
    found = fisher_separability(X)
    assert not found.saturated
    assert found.dimension == pytest.approx(n, rel=0.08)


def test_fisher_counts_inseparable_pairs(cloud):
    levels = np.array([0.6, 0.9])
    found = fisher_separability(cloud, levels)
    centred = cloud - cloud.mean(0)
    values, vectors = np.linalg.eigh(np.cov(centred.T))
    white = centred @ vectors / np.sqrt(values)
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    dots = white @ white.T
    off = ~np.eye(500, dtype=bool)
    np.testing.assert_allclose(found.inseparable, [(dots[off] > a).mean() for a in levels], rtol=1e-12)
    for a, p, n in zip(levels, found.inseparable, found.dimensions):
        back = (1 - a * a) ** ((n - 1) / 2) / (a * math.sqrt(2 * math.pi * n))
        assert back == pytest.approx(p, rel=1e-9)


def test_fisher_saturates_to_a_lower_bound():
    X = np.random.default_rng(0).normal(size=(100, 400))
    found = fisher_separability(X)
    assert found.saturated
    assert np.isnan(found.dimensions).all()
    assert 5 < found.dimension < 400
    more = fisher_separability(np.random.default_rng(0).normal(size=(200, 400)))
    assert more.dimension > found.dimension
