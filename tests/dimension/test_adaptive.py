"""ABIDE: the likelihood ratio, k* by a loop, known dimensions, density that changes, noise."""

import math

import numpy as np
import pytest
from scipy.stats import chi2

from lodim.dimension.adaptive import _binomial, _k_star, _ratio_statistic, adaptive_dimension
from lodim.geometry import IntrinsicDimension
from lodim.neighbors import NeighborGraph


def test_the_statistic_is_the_papers():
    rng = np.random.default_rng(0)
    v, w, k = rng.uniform(0.1, 3, 20), rng.uniform(0.1, 3, 20), rng.integers(1, 50, 20)
    paper = -2 * k * (np.log(v) + np.log(w) - 2 * np.log(v + w) + math.log(4))
    np.testing.assert_allclose(_ratio_statistic(np.log(v / w), k), paper, rtol=1e-9, atol=1e-12)
    assert _ratio_statistic(np.array([2000.0]), np.array([1]))[0] == pytest.approx(4 * (1000 - math.log(2)))


def test_the_statistic_has_its_law_at_constant_density():
    rng = np.random.default_rng(0)
    k = 40
    v, w = rng.gamma(k, size=(2, 20_000))
    found = _ratio_statistic(np.log(v / w), np.full(20_000, k))
    assert (found > 6.67).mean() == pytest.approx(chi2(1).sf(6.67), rel=0.2)


def test_k_star_against_a_loop():
    X = np.random.default_rng(0).normal(size=(150, 2)) ** 3
    graph = NeighborGraph.from_data(X, 40)
    found = adaptive_dimension(graph, 40)
    d = found.history[-2]
    order = {int(q): i for i, q in enumerate(graph.query_idx)}
    for i in (0, 50, 149):
        expected = 39
        for k in range(4, 40):
            j = order[int(graph.idx[i, k])]
            v, w = graph.dist[i, k - 1] ** d, graph.dist[j, k - 1] ** d
            if -2 * k * (math.log(v) + math.log(w) - 2 * math.log(v + w) + math.log(4)) > 6.67:
                expected = max(k - 1, 4)
                break
        assert found.k_star[i] == expected
    assert 4 <= found.k_star.min() < found.k_star.max()


def test_constant_volumes_are_never_rejected():
    log_dist = np.tile(np.log(np.arange(1.0, 11)), (3, 1))
    assert (_k_star(log_dist, log_dist[:, :9], 5.0, 6.67) == 9).all()


def test_binomial_maximises_its_likelihood():
    X = np.random.default_rng(0).uniform(size=(400, 3))
    dist = NeighborGraph.from_data(X, 30).dist
    k = np.full(400, 25)
    found, se, _ = _binomial(dist, k, 3.0)
    tau = 0.2032 ** (1 / 3.0)
    inside = (dist < tau * dist[:, 24:25]).sum()
    assert tau**found == pytest.approx(inside / (400 * 24), rel=1e-12)
    p = tau**found
    slope = abs(math.log(tau)) * p
    assert se == pytest.approx(math.sqrt(p * (1 - p) / (400 * 24)) / slope, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_known_dimensions(d):
    X = np.random.default_rng(d).uniform(size=(1500, d))
    model = IntrinsicDimension("abide").fit(X)
    assert model.dimension_ == pytest.approx(d, rel=0.08)


def test_it_looks_over_noise():
    """A square with a little noise in twenty directions: two neighbours see the noise, adapted ones the square."""
    rng = np.random.default_rng(0)
    X = np.hstack([rng.uniform(size=(2000, 2)), np.zeros((2000, 18))]) + 0.004 * rng.normal(size=(2000, 20))
    assert IntrinsicDimension("twonn").fit(X).dimension_ > 5
    assert IntrinsicDimension("abide").fit(X).dimension_ < 2.4


def test_every_point_must_be_a_query():
    X = np.random.default_rng(0).normal(size=(200, 2))
    with pytest.raises(ValueError, match="compares every point"):
        IntrinsicDimension("abide", n_queries=50).fit(X)
    with pytest.raises(ValueError, match="k must be at least 6"):
        IntrinsicDimension("abide", k=3).fit(X)


def test_pointwise_dimensions_tell_a_line_from_a_ball():
    """Inside the inner ball lie tau^d of the neighbours of each point, whatever the dimension of the rest."""
    rng = np.random.default_rng(0)
    line = np.hstack([rng.uniform(3, 9, size=(600, 1)), np.zeros((600, 2))])
    ball = rng.normal(size=(600, 3))
    ball *= rng.uniform(size=(600, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
    model = IntrinsicDimension("abide").fit(np.vstack([line, ball]))
    on_line, in_ball = np.split(model.dimension_pw_smooth_, 2)
    assert np.median(on_line) == pytest.approx(1, rel=0.15)
    assert np.median(in_ball) == pytest.approx(3, rel=0.15)
    assert 1 < model.dimension_ < 3
    assert model.dimension_pw_.shape == (1200,)
