"""TLE against a loop over pairs, and its sphere-stretching against geometry."""

import math

import numpy as np
import pytest

from lodim.dimension.tight import _stretched, tle
from lodim.neighbors import NeighborGraph


def loop(x, near):
    """The formulas, one pair at a time."""
    k = len(near)
    u = [math.dist(x, p) for p in near]
    r = u[-1]

    def stretch(i, j, square):
        a = u[i] ** 2 + square - u[j] ** 2
        if u[i] == r:
            return r * square / (r**2 + square - u[j] ** 2)
        room = r**2 - u[i] ** 2
        return r * (math.sqrt(a**2 + 4 * square * room) - a) / (2 * room)

    total, dropped = 2 * sum(math.log(v / r) for v in u), 0
    for i in range(k):
        for j in range(k):
            if i == j:
                continue
            v2 = math.dist(near[i], near[j]) ** 2
            s = stretch(i, j, v2)
            t = stretch(i, j, 2 * u[i] ** 2 + 2 * u[j] ** 2 - v2)
            if s / r < 1e-4 or t / r < 1e-4:
                dropped += 1
            else:
                total += math.log(s / r) + math.log(t / r)
    return -2 * (k**2 - dropped) / total


@pytest.mark.parametrize("d", [2, 5, 12])
def test_against_the_loop(d):
    X = np.random.default_rng(d).normal(size=(120, d))
    graph = NeighborGraph.from_data(X, 15)
    found = tle(X, graph, 15)
    for i in (0, 60, 119):
        assert found[i] == pytest.approx(loop(X[i], X[graph.idx[i, :15]]), rel=1e-9)


def test_stretched_distance_is_the_radius_of_a_homothetic_ball():
    """The ball of radius s through x_i about a centre that moves from x_i to x touches x_j: |x_j - c| = s."""
    rng = np.random.default_rng(0)
    near = rng.normal(size=(6, 3))
    near = near[np.argsort(np.linalg.norm(near, axis=1))]
    u = np.linalg.norm(near, axis=1)
    square = ((near[:, None] - near[None]) ** 2).sum(-1)
    r = u[-1]
    s = _stretched(u[None], square[None], np.array([r]))[0]
    for i in range(5):
        for j in range(6):
            if i != j:
                centre = near[i] * (
                    1 - s[i, j] / r
                )  # ball of radius s inside, tangent in direction, to the ball of r
                assert np.linalg.norm(near[j] - centre) == pytest.approx(s[i, j], rel=1e-9)


def test_the_unit_of_length_does_not_matter():
    X = np.random.default_rng(1).normal(size=(200, 4))
    values = [tle(X * c, NeighborGraph.from_data(X * c, 10), 10) for c in (1.0, 1e-6, 1e6)]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6)
    np.testing.assert_allclose(values[2], values[0], rtol=1e-6)


@pytest.mark.parametrize("d", [1, 3, 8])
def test_uniform_points(d):
    X = np.random.default_rng(0).uniform(size=(1500, d))
    assert tle(X, NeighborGraph.from_data(X, 20), 20).mean() == pytest.approx(d, rel=0.2)
