"""DANCo: the exact law of a ball's angles against balls, its divergence against integrals, and known dimensions."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import iv

from lodim.dimension.ball_tables import ball_answers, ball_dimensions, danco_table
from lodim.dimension.calibration import expected_on_ball
from lodim.dimension.danco import (
    angle_statistics,
    ball_statistics,
    concentration,
    danco,
    divergence,
    neighbour_concentration,
)
from lodim.geometry import IntrinsicDimension
from lodim.neighbors import NeighborGraph


def ball(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True) * rng.uniform(size=(n, 1)) ** (1 / d)


@pytest.mark.parametrize("d", [1, 2, 20])
def test_drawn_statistics_are_those_of_balls(d):
    n = 500
    found = []
    for seed in range(8):
        X = ball(n, d, seed)
        found.append(neighbour_concentration(X, NeighborGraph.from_data(X, 11), 10).statistics())
    mean, se = np.mean(found, 0), np.std(found, 0, ddof=1) / math.sqrt(8)
    assert (np.abs(mean - ball_statistics(d, n, 10)) < 4 * se + 2e-3 * mean).all()


def test_statistics_against_a_loop():
    X = np.random.default_rng(0).normal(size=(80, 4))
    graph = NeighborGraph.from_data(X, 7)
    found = neighbour_concentration(X, graph, 6)
    for i in (0, 40):
        v = X[graph.idx[i, :6]] - X[i]
        angles = [
            math.acos(v[a] @ v[b] / (np.linalg.norm(v[a]) * np.linalg.norm(v[b])))
            for a in range(6)
            for b in range(a + 1, 6)
        ]
        mean = np.mean(np.exp(1j * np.array(angles)))
        assert found.nu[i] == pytest.approx(np.angle(mean), rel=1e-9)
        assert found.eta[i] == pytest.approx(abs(mean), rel=1e-9)
        assert found.l[i] == pytest.approx(math.log(graph.dist[i, 6] / graph.dist[i, 0]), rel=1e-12)


def test_a_cosine_beyond_one_by_rounding_is_one():
    nu, eta = angle_statistics(np.full((1, 2, 2), 1 + 1e-15))
    assert nu[0] == 0
    assert eta[0] == 1


@pytest.mark.parametrize("tau", [1e-3, 0.7, 30.0, 5000.0])
def test_concentration_inverts_the_ratio_of_bessel_functions(tau):
    if tau < 500:
        eta = iv(1, tau) / iv(0, tau)
    else:
        eta = 1 - 1 / (2 * tau) - 1 / (8 * tau**2)  # asymptotic series
    assert concentration(eta) == pytest.approx(tau, rel=1e-6)
    assert concentration(0.0) == 0
    assert concentration(1.0) == math.inf


def test_divergence_is_the_integral():
    k, own, other = 10, 4.0, 7.0
    nu, eta, nu_b, tau_b = 1.3, 0.8, 1.45, 9.0
    tau = concentration(eta)

    def law(r, d):
        return k * d * r ** (d - 1) * (1 - r**d) ** (k - 1)

    def von_mises(x, nu, tau):
        return math.exp(tau * math.cos(x - nu)) / (2 * math.pi * iv(0, tau))

    norms = quad(lambda r: law(r, own) * math.log(law(r, own) / law(r, other)), 0, 1)[0]
    angles = quad(
        lambda x: von_mises(x, nu, tau) * math.log(von_mises(x, nu, tau) / von_mises(x, nu_b, tau_b)),
        -math.pi,
        math.pi,
    )[0]
    found = divergence((own, nu, eta), np.array([other]), np.array([nu_b]), np.array([tau_b]), k)
    assert found[0] == pytest.approx(norms + angles, rel=1e-7)
    same = divergence((own, nu, eta), np.array([own]), np.array([nu]), np.array([tau]), k)
    assert same[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3, 7.0, 20, 60])
def test_a_ball_is_most_like_itself(d):
    found, saturated = danco(ball_statistics(int(d), 3000, 10), 3000, 10)
    assert found == pytest.approx(d, rel=0.005)
    assert not saturated


@pytest.mark.parametrize("d", [1, 3, 10, 30])
def test_known_dimensions(d):
    rng = np.random.default_rng(d)
    turn, _ = np.linalg.qr(rng.normal(size=(60, d)))
    ci = 0.95 if d == 10 else None
    cube = IntrinsicDimension("danco", ci=ci, random_state=0).fit(rng.uniform(size=(1000, d)) @ turn.T)
    assert cube.dimension_ == pytest.approx(d, rel=0.06)
    if ci:
        low, high = cube.ci_
        assert low <= cube.dimension_ <= high
        assert high - low < 0.25 * d
    sphere = rng.normal(size=(1000, d + 1))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    # a sphere has no border, the balls it is compared with have one: a little high
    assert IntrinsicDimension("danco").fit(sphere).dimension_ == pytest.approx(d, rel=0.1)


def test_another_k_is_computed_when_needed():
    X = ball(400, 6)
    assert danco_table(400, 6) is None
    assert IntrinsicDimension("danco", k=7).fit(X).dimension_ == pytest.approx(6, rel=0.06)
    with pytest.raises(ValueError, match="k must be at"):
        danco((3.0, 1.0, 0.5), 100, 40)


def test_beyond_the_largest_ball_is_said():
    X = np.random.default_rng(0).normal(size=(300, 400))
    model = IntrinsicDimension("danco").fit(X)
    assert model.saturated_
    assert model.dimension_ == pytest.approx(100)


@pytest.mark.parametrize(("d", "n"), [(3, 1000), (45, 31623)])
def test_the_shipped_statistics_are_derived_again(d, n):
    np.testing.assert_allclose(danco_table(n, 10)[d - 1], ball_statistics(d, n, 10), rtol=1e-6)


@pytest.mark.parametrize(("d", "n"), [(3, 700), (20, 20_000)])
def test_between_the_nodes_the_shipped_statistics_hold(d, n):
    np.testing.assert_allclose(danco_table(n, 10)[d - 1], ball_statistics(d, n, 10), rtol=1e-3)


@pytest.mark.parametrize("method", ["twonn", "mle", "mom"])
def test_the_shipped_calibration_is_derived_again(method):
    k = {"twonn": 2, "mle": 20, "mom": 100}[method]
    at = {d: i for i, d in enumerate(ball_dimensions())}
    for d, n in ((4, 1000), (38, 100_000)):
        expected = expected_on_ball(method, d, n, k)
        assert ball_answers(method, n, k)[at[d]] == pytest.approx(expected, rel=1e-6)
        between = expected_on_ball(method, d, n + 170, k)
        assert ball_answers(method, n + 170, k)[at[d]] == pytest.approx(between, rel=1.5e-3)


def test_what_is_not_shipped_is_none():
    assert ball_answers("mle", 1000, 19) is None
    assert ball_answers("mle", 10**9, 20) is None
    assert ball_answers("tle", 1000, 20) is None
