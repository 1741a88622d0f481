"""The law of neighbour distances in a ball, against balls; and its inversion."""

import numpy as np
import pytest

from lodim.dimension.calibration import _within, ball_distances, calibrate, expected_on_ball
from lodim.dimension.methods import GRAPH_METHODS
from lodim.neighbors import NeighborGraph


def ball(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True) * rng.uniform(size=(n, 1)) ** (1 / d)


@pytest.mark.parametrize("d", [1, 2, 3, 9])
@pytest.mark.parametrize("rho", [0.1, 0.6, 0.99])
def test_share_within_a_distance(d, rho):
    Y = ball(200_000, d)
    x = np.zeros(d)
    x[0] = rho
    dist = np.linalg.norm(Y - x, axis=1)
    for r in (0.2, 0.7, 1.1, 1.6, 2.0):
        assert _within(np.array([r]), np.array([rho]), d)[0] == pytest.approx((dist < r).mean(), abs=0.004)


@pytest.mark.parametrize(("d", "n"), [(1, 300), (3, 500), (12, 400)])
def test_distances_have_the_law_of_searched_ones(d, n):
    k = 10
    searched = np.concatenate([NeighborGraph.from_data(ball(n, d, seed), k).dist for seed in range(80)])
    drawn = ball_distances(d, n, k, 1 << 14)
    assert drawn.shape == (1 << 14, k)
    assert (np.diff(drawn, axis=1) > 0).all()
    for j in (2, 5, 9):
        for q in (0.1, 0.5, 0.9):
            expected = np.quantile(searched[:, j], q)
            assert np.quantile(drawn[:, j], q) == pytest.approx(expected, rel=0.05 if d == 1 else 0.02)


@pytest.mark.parametrize("method", GRAPH_METHODS)
@pytest.mark.parametrize("d", [1, 4, 20, 100])
def test_calibration_inverts_the_expectation(method, d):
    k, n = GRAPH_METHODS[method].k, 500
    assert float(calibrate(expected_on_ball(method, d, n, k), method, n, k)) == pytest.approx(d, rel=1e-3)


def test_many_points_need_no_correction():
    assert expected_on_ball("twonn", 2, 10**8, 2) == pytest.approx(2, rel=0.01)
    assert expected_on_ball("mle", 20, 10**8, 20) > expected_on_ball("mle", 20, 10**3, 20)


def test_order_and_special_values():
    raw = np.array([0.5, 3.0, 3.1, 8.0, np.nan, np.inf])
    found = calibrate(raw, "mle", 1000, 20)
    assert (np.diff(found[:4]) > 0).all()
    assert np.isnan(found[4])
    assert np.isinf(found[5])
    with pytest.raises(ValueError, match="method must be one of"):
        calibrate(2.0, "tle", 1000, 20)


@pytest.mark.parametrize("d", [2, 5, 10, 20])
@pytest.mark.parametrize("shape", ["ball", "cube", "gauss", "sphere"])
def test_bias_shrinks_on_other_shapes_too(d, shape):
    rng = np.random.default_rng(d)
    if shape == "ball":
        X = ball(1000, d)
    elif shape == "cube":
        X = rng.uniform(size=(1000, d))
    else:
        X = rng.normal(size=(1000, d + (shape == "sphere")))
        X /= np.linalg.norm(X, axis=1, keepdims=True) if shape == "sphere" else 1
    dist = NeighborGraph.from_data(X, 20).dist
    mle = GRAPH_METHODS["mle"]
    raw = mle.combine(mle.contributions(dist, 20), 20, None)
    corrected = float(calibrate(raw, "mle", 1000, 20))
    assert corrected == pytest.approx(d, rel={"ball": 0.03, "cube": 0.06}.get(shape, 0.12))
