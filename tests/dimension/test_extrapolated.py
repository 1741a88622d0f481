"""GeoMLE: the regression against scikit-learn's, thinning against a search of the sample, known dimensions."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lodim.dimension.extrapolated import _thinned, geomle, intercepts
from lodim.geometry import IntrinsicDimension
from lodim.neighbors import NeighborGraph


def test_intercepts_are_those_of_a_weighted_ridge():
    rng = np.random.default_rng(0)
    radius = np.sort(rng.uniform(0.5, 2, size=(3, 30)), 1)
    local, spread = rng.uniform(3, 5, size=(2, 3, 30))
    found = intercepts(radius, local, spread)
    for row in range(3):
        x = radius[row] / radius[row, -1]
        model = Ridge(alpha=5e-3).fit(np.column_stack([x, x**2]), local[row], 1 / spread[row])
        assert found[row] == pytest.approx(model.intercept_, rel=1e-9)


def test_a_straight_line_is_extrapolated():
    radius = np.linspace(0.1, 1, 40)[None]
    found = intercepts(radius, 5 - 0.5 * radius, np.full_like(radius, 1e-4))
    assert found[0] == pytest.approx(5, abs=1e-3)


def test_thinning_gives_the_neighbours_in_the_sample():
    X = np.random.default_rng(0).normal(size=(60, 3))
    graph = NeighborGraph.from_data(X, 59)
    sample = np.random.default_rng(1).random(60) < 0.6
    near = _thinned(graph.dist, sample[graph.idx], 8)
    for i in (0, 30):
        others = np.flatnonzero(sample & (np.arange(60) != i))
        np.testing.assert_allclose(near[i], np.sort(np.linalg.norm(X[others] - X[i], axis=1))[:8])
    few = _thinned(graph.dist, np.zeros_like(graph.idx, dtype=bool), 8)
    assert np.isnan(few).all()


@pytest.mark.parametrize("d", [1, 2, 5])
def test_known_dimensions(d):
    X = np.random.default_rng(d).normal(size=(1000, d + 1))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    found = IntrinsicDimension("geomle", random_state=0).fit(X).dimension_
    assert found == pytest.approx(d, rel=0.1)
    again = IntrinsicDimension("geomle", random_state=0).fit(X * 1e-3).dimension_
    assert again == pytest.approx(found, rel=1e-6)


def test_the_extrapolation_removes_bias():
    """A sphere has curvature and no boundary, which is what the extrapolation is for."""
    X = np.random.default_rng(0).normal(size=(1000, 9))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    graph = NeighborGraph.from_data(X, 100)
    plain = IntrinsicDimension("mle", k=40).fit(graph).dimension_
    extrapolated = geomle(graph, 100, random_state=0).mean()
    assert abs(extrapolated - 8) < 0.5 * abs(plain - 8)


def test_too_few_neighbours_are_refused():
    graph = NeighborGraph.from_data(np.random.default_rng(0).normal(size=(50, 2)), 30)
    with pytest.raises(ValueError, match=r"20 neighbours or more, at most the graph.s 30"):
        geomle(graph, 10)
    with pytest.raises(ValueError, match="k must be at least 20"):
        IntrinsicDimension("geomle", k=10).fit(graph)
