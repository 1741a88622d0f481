"""Regression on a coreset: the solvers, the dual bound, and the estimator around them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.linear_model import QuantileRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from lodim.geometry import LpRegression
from lodim.geometry.lp_sampling.basis import orthonormal_basis
from lodim.geometry.lp_sampling.newton import median_regression, minimize
from lodim.geometry.lp_sampling.regression import lower_bound, norm, solve


def problem(n=300, d=4, seed=0, nu=2):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, X @ np.arange(1.0, d + 1) + 0.5 + rng.standard_t(nu, n)


@pytest.mark.parametrize("p", [1.0, 1.2, 1.5, 2.0, 3.0, 6.0, 10.0])
def test_at_the_optimum_the_dual_bound_is_the_objective(p):
    model = LpRegression(p=p, n_rows=300).fit(*problem())
    assert 0 <= model.gap_ + 1e-12 < 1e-6
    assert np.array_equal(model.coreset_idx_, np.arange(300))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.0, 8.0]), st.integers(0, 10**6), st.floats(0, 10))
def test_no_residual_is_below_the_bound_made_from_any_other(p, seed, away):
    rng = np.random.default_rng(seed)
    A, b = torch.from_numpy(rng.standard_t(2, (40, 3))), torch.from_numpy(rng.standard_t(2, 40))
    x = solve(A, b, p)
    other = x + away * torch.from_numpy(rng.standard_normal(3))
    bound = lower_bound(orthonormal_basis(A).Q, b - A @ other, p)
    assert 0 <= bound <= norm(b - A @ x, p) * (1 + 1e-10)


def test_least_squares_on_all_rows_is_lstsq():
    X, y = problem()
    model = LpRegression(p=2, n_rows=len(X)).fit(X, y)
    wanted = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y)[0]
    assert np.r_[model.coef_, model.intercept_] == pytest.approx(wanted, rel=1e-10)


def test_the_median_fit_equals_the_quantile_regression():
    X, y = problem(120)
    model = LpRegression(p=1, n_rows=120).fit(X, y)
    peer = QuantileRegressor(quantile=0.5, alpha=0).fit(X, y)
    assert model.objective_ == pytest.approx(np.abs(y - peer.predict(X)).sum(), rel=1e-9)
    Q = orthonormal_basis(torch.from_numpy(X)).Q
    program = np.abs(Q.numpy() @ median_regression(Q.numpy(), y) - y).sum()
    smoothed = minimize(Q, 1.0, (Q.T @ torch.from_numpy(y))[None], target=torch.from_numpy(y))
    assert program * (1 - 1e-12) <= float(smoothed.value) <= program * (1 + 1e-5)


def test_a_large_p_approaches_the_smallest_largest_residual():
    X, y = problem(60, 2, nu=30)
    A = np.c_[X, np.ones(60)]
    cost = np.r_[np.zeros(3), 1.0]
    sides = np.r_[np.c_[A, -np.ones(60)], np.c_[-A, -np.ones(60)]]
    best = linprog(cost, A_ub=sides, b_ub=np.r_[y, -y], bounds=[(None, None)] * 4).fun
    model = LpRegression(p=60, n_rows=60, rule="leverage").fit(X, y)
    assert best <= np.abs(y - model.predict(X)).max() <= best * 60 ** (1 / 60) * (1 + 1e-9)
    assert model.gap_ < 1e-6


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0])
def test_a_coreset_fits_nearly_as_well_and_says_so(p):
    X, y = problem(20_000, 5)
    full = LpRegression(p=p, n_rows=20_000).fit(X, y)
    part = LpRegression(p=p, n_rows=800, random_state=0).fit(X, y)
    assert len(part.coreset_idx_) < 1000
    assert full.objective_ <= part.objective_ * (1 + 1e-9)
    assert part.lower_bound_ <= full.objective_ * (1 + 1e-9)
    assert part.objective_ / full.objective_ - 1 <= part.gap_ < 0.1
    found = part.distortion(X, y, random_state=0)
    assert found.rank_kept
    assert 0.01 < found.value < 0.5


def test_the_coreset_grows_until_the_gap_is_small_enough():
    X, y = problem(20_000, 5)
    first = LpRegression(p=1.5, n_rows=50, random_state=0).fit(X, y)
    model = LpRegression(p=1.5, n_rows=50, tol=1e-3, random_state=0).fit(X, y)
    assert first.gap_ > 1e-3 >= model.gap_
    assert model.n_refits_ >= 1
    assert 50 * 2**model.n_refits_ == pytest.approx(len(model.coreset_idx_), rel=0.4)
    whole = LpRegression(p=1.5, n_rows=50, tol=0.0, random_state=0).fit(X[:300], y[:300])
    assert len(whole.coreset_idx_) == 300


def test_an_exact_fit_has_no_gap():
    X, _ = problem(500)
    model = LpRegression(p=1, n_rows=60, random_state=0).fit(X, X @ np.arange(4.0) - 2)
    assert model.gap_ == 0
    assert model.objective_ < 1e-9
    assert model.coef_ == pytest.approx(np.arange(4.0), abs=1e-10)
    assert LpRegression(p=3).fit(X, np.zeros(500)).gap_ == 0


def test_dependent_columns_get_the_shortest_coefficients():
    X, y = problem()
    model = LpRegression(p=2, n_rows=300, fit_intercept=False).fit(np.c_[X, X[:, :1]], y)
    assert model.coef_ == pytest.approx(np.linalg.lstsq(np.c_[X, X[:, :1]], y)[0], rel=1e-8)
    assert model.intercept_ == 0.0


def test_below_one_there_is_a_local_minimum_without_a_certificate():
    X, y = problem()
    with pytest.warns(UserWarning, match="not convex"):
        model = LpRegression(p=0.5, n_rows=300).fit(X, y)
    assert math.isnan(model.lower_bound_)
    assert math.isnan(model.gap_)
    start = np.c_[X, np.ones(300)] @ np.linalg.lstsq(np.c_[X, np.ones(300)], y)[0] - y
    assert model.objective_ < (np.abs(start) ** 0.5).sum() ** 2
    with pytest.warns(UserWarning, match="convex"), pytest.raises(ValueError, match="certificate"):
        LpRegression(p=0.5, tol=0.1).fit(X, y)


def test_outliers_do_not_move_the_median_fit():
    X, y = problem(2000, nu=30)
    y[:100] += 1e6
    robust = LpRegression(p=1, n_rows=600, random_state=0).fit(X, y)
    plain = LpRegression(p=2, n_rows=600, random_state=0).fit(X, y)
    truth = np.arange(1.0, 5.0)
    assert np.abs(robust.coef_ - truth).max() < 0.5 < np.abs(plain.coef_ - truth).max()


def test_tensors_are_taken():
    X, y = problem()
    one = LpRegression(p=1.5, n_rows=100, random_state=0).fit(X, y)
    two = LpRegression(p=1.5, n_rows=100, random_state=0).fit(torch.from_numpy(X), torch.from_numpy(y))
    assert np.array_equal(one.coef_, two.coef_)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"p": -1.0}, "p must"), ({"rule": "x"}, "rule"), ({"tol": -1.0}, "tol"), ({"n_rows": 0}, "n_")],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LpRegression(**options).fit(*problem(30))


@parametrize_with_checks([LpRegression(random_state=0)])
def test_it_is_an_estimator(estimator, check):
    check(estimator)
