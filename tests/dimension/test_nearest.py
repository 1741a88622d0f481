"""Closed-form estimators against slow loops written from the formulas, and against each other."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from lodim.dimension.nearest import (
    gride,
    gride_pointwise,
    l2n2,
    levina_bickel,
    log_ratios,
    mada,
    mind_integer,
    mom,
    twonn_fit,
    twonn_mle,
)
from lodim.neighbors import NeighborGraph


@pytest.fixture(scope="module")
def dist():
    X = np.random.default_rng(0).normal(size=(300, 6))
    return NeighborGraph.from_data(X, 40).dist


def pareto_distances(d, n=200_000, k=20, seed=0):
    """Neighbour distances of points of constant density in d dimensions, no boundary: r_j = (sum of gaps)^(1/d)."""
    return np.random.default_rng(seed).exponential(size=(n, k)).cumsum(1) ** (1 / d)


def test_twonn_against_loops(dist):
    ratios = sorted(math.log(r[1] / r[0]) for r in dist)
    n, kept = 300, 270
    total = sum(ratios[:kept]) + (n - kept) * ratios[kept - 1]
    assert twonn_mle(log_ratios(dist)) == pytest.approx((kept - 1) / total, rel=1e-12)
    xy = sum(x * -math.log(1 - (i + 1) / n) for i, x in enumerate(ratios[:kept]))
    assert twonn_fit(log_ratios(dist)) == pytest.approx(xy / sum(x * x for x in ratios[:kept]), rel=1e-12)


def test_l2n2_against_a_loop_and_its_law(dist):
    """E log log mu = -log d - gamma for mu = r_2/r_1: its integral over the law of log mu, exponential of rate d."""
    logs = [math.log(math.log(r[1] / r[0])) for r in dist]
    assert l2n2(log_ratios(dist)) == pytest.approx(math.exp(-sum(logs) / 300 - 0.5772156649015329), rel=1e-12)
    mean = quad(lambda u: math.log(-math.log(u) / 7), 0, 1)[0]
    assert mean == pytest.approx(-math.log(7) - np.euler_gamma, abs=1e-6)
    l = log_ratios(dist)
    assert l2n2(l / 3) == pytest.approx(3 * l2n2(l), rel=1e-12)
    assert l2n2(np.append(l, 0.0)) == l2n2(l)  # a tie says nothing


@pytest.mark.parametrize("unbiased", [False, True])
def test_levina_bickel_against_a_loop(dist, unbiased):
    k = 20
    for i in (0, 17, 299):
        total = sum(math.log(dist[i, k - 1] / dist[i, j]) for j in range(k - 1))
        d = (k - 2 if unbiased else k - 1) / total
        assert levina_bickel(dist, k, unbiased=unbiased)[i] == pytest.approx(1 / d, rel=1e-12)


def test_mom_and_mada_against_loops(dist):
    for i in (0, 17, 299):
        m = sum(dist[i, :40]) / 40
        assert mom(dist, 40)[i] == pytest.approx(m / (dist[i, 39] - m), rel=1e-12)
        assert mada(dist, 20)[i] == pytest.approx(math.log(2) / math.log(dist[i, 19] / dist[i, 9]), rel=1e-12)


@pytest.mark.parametrize(("n1", "n2"), [(1, 2), (2, 4), (3, 10), (16, 32)])
def test_gride_maximises_its_likelihood(dist, n1, n2):
    l = log_ratios(dist, n1, n2)

    def negative(d):
        return -np.sum(np.log(d) + (n2 - n1 - 1) * np.log(np.expm1(d * l)) - ((n2 - 1) * d + 1) * l)

    best = minimize_scalar(negative, bounds=(0.5, 30), method="bounded", options={"xatol": 1e-9})
    d, se = gride(l, n1, n2)
    assert d == pytest.approx(best.x, rel=1e-5)
    h = 1e-3 * d
    curvature = (negative(d + h) - 2 * negative(d) + negative(d - h)) / h**2
    assert se == pytest.approx(curvature**-0.5, rel=1e-3)


def test_gride_at_one_two_is_twonn_without_censoring(dist):
    l = log_ratios(dist)
    n = len(l)
    assert gride(l, 1, 2)[0] == pytest.approx(n / l.sum(), rel=1e-12)
    assert twonn_mle(l, discard=0.0) == pytest.approx((n - 1) / l.sum(), rel=1e-12)
    assert gride(l, 1, 2)[1] == pytest.approx(n / l.sum() / math.sqrt(n), rel=1e-12)


def test_mind_is_gride_between_the_first_and_the_last(dist):
    """MiND-ML maximises N log(k d) + (d-1) sum log rho + (k-1) sum log(1 - rho^d) with rho = r_1 / r_{k+1}."""
    k = 10
    rho = dist[:, 0] / dist[:, k]

    def negative(d):
        return -(len(rho) * np.log(k * d) + (d - 1) * np.log(rho).sum() + (k - 1) * np.log1p(-(rho**d)).sum())

    best = minimize_scalar(negative, bounds=(0.5, 30), method="bounded", options={"xatol": 1e-9})
    assert gride(log_ratios(dist, 1, k + 1), 1, k + 1)[0] == pytest.approx(best.x, rel=1e-5)


def test_integer_mind_is_the_best_of_all_whole_dimensions(dist):
    """Against the likelihood at every whole number up to 40; no upper bound of 10 or 30 is built in."""
    k = 10
    for power in (1.0, 0.21):
        rho = (dist[:, 0] / dist[:, k]) ** power

        def likelihood(d, rho=rho):
            return (
                len(rho) * np.log(k * d) + (d - 1) * np.log(rho).sum() + (k - 1) * np.log1p(-(rho**d)).sum()
            )

        assert mind_integer(-np.log(rho), k) == max(range(1, 41), key=likelihood)
    assert mind_integer(np.zeros(5), k) == math.inf


def test_pointwise_gride_solves_each_point(dist):
    l = log_ratios(dist, 2, 4)[:5]
    one_by_one = [gride(l[i : i + 1], 2, 4)[0] for i in range(5)]
    np.testing.assert_allclose(gride_pointwise(l, 2, 4), one_by_one, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 5, 20])
def test_all_are_right_where_their_assumption_holds(d):
    dist = pareto_distances(d)
    l = log_ratios(dist)
    assert twonn_mle(l) == pytest.approx(d, rel=0.01)
    assert twonn_fit(l) == pytest.approx(d, rel=0.01)
    assert l2n2(l) == pytest.approx(d, rel=0.015)  # four errors of 200,000: pi / sqrt(6 n)
    for n1, n2 in ((1, 2), (2, 4), (8, 16), (1, 20)):
        assert gride(log_ratios(dist, n1, n2), n1, n2)[0] == pytest.approx(d, rel=0.01)
    inverse = levina_bickel(dist, 20)
    assert inverse.mean() == pytest.approx(1 / d, rel=0.01)
    # the mean of (k-2) / sum is unbiased point by point, the mean of (k-1) / sum is not
    assert (1 / levina_bickel(dist, 20, unbiased=True)).mean() == pytest.approx(d, rel=0.01)
    assert (1 / inverse).mean() == pytest.approx(d * 19 / 18, rel=0.01)


def test_standard_error_of_gride_is_its_spread():
    found = [gride(log_ratios(pareto_distances(5, 500, 8, seed), 4, 8), 4, 8) for seed in range(200)]
    d, se = np.array(found).T
    assert se.mean() == pytest.approx(d.std(), rel=0.15)


def test_ties_everywhere_give_infinity():
    dist = np.ones((10, 8))
    l = log_ratios(dist)
    assert twonn_mle(l) == twonn_fit(l) == l2n2(l) == gride(l, 1, 2)[0] == math.inf
    assert (mom(dist, 8) == math.inf).all()
    assert (mada(dist, 8) == math.inf).all()
    assert (levina_bickel(dist, 8) == 0).all()


def test_orders_must_make_sense(dist):
    with pytest.raises(ValueError, match="n1=4, n2=4"):
        log_ratios(dist, 4, 4)
    with pytest.raises(ValueError, match="n2=41"):
        log_ratios(dist, 1, 41)
    with pytest.raises(ValueError, match="k=2"):
        levina_bickel(dist, 2, unbiased=True)
