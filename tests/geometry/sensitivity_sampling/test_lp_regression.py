"""Regression on a coreset: the solvers, the dual bound, and the estimator around them."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import r2_score

from lodim.geometry import LpRegression
from lodim.geometry.sensitivity_sampling.basis import orthonormal_basis
from lodim.geometry.sensitivity_sampling.newton import median_regression, minimize
from lodim.geometry.sensitivity_sampling.regression import lower_bound, norm, solve


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


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_more_columns_than_rows_get_the_shortest_coefficients(fit_intercept):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 1000)) + 0.3, rng.normal(size=50)
    model = LpRegression(p=2, fit_intercept=fit_intercept).fit(X, y)
    centred = (X - X.mean(0), y - y.mean()) if fit_intercept else (X, y)
    assert model.coef_ == pytest.approx(np.linalg.lstsq(*centred)[0], abs=1e-12)
    assert model.predict(X) == pytest.approx(y, abs=1e-10)


def test_more_columns_than_rows_in_different_units():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 400)) * 10.0 ** rng.integers(-4, 5, 400), rng.normal(size=20)
    model = LpRegression(p=2, fit_intercept=False).fit(X, y)
    largest = X[:, np.abs(X).max(0) > 1e3]
    assert model.predict(X) == pytest.approx(y, abs=1e-9)
    assert np.linalg.norm(model.coef_) <= np.linalg.norm(np.linalg.lstsq(largest, y)[0])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_intercept_does_not_count_in_the_length(p):
    """Coefficients of levels may all move by one number that the intercept takes back: the shortest sum to zero."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 4, 300)
    model = LpRegression(p=p, random_state=0).fit(np.eye(4)[level], rng.normal(size=300) + 10 * level + 5)
    assert abs(model.coef_.sum()) < 1e-9
    assert np.ptp(model.coef_) == pytest.approx(30, abs=1 if p < 3 else 2)


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


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e7, 1e12])
def test_the_median_fit_of_targets_of_any_size(seed, size):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(200, 2)), size * rng.integers(1, 900, 200)
    model = LpRegression(n_rows=200, random_state=0).fit(X, y)
    assert 0 <= model.gap_ + 1e-12 < 1e-9
    best = QuantileRegressor(quantile=0.5, alpha=0).fit(X, y / size).predict(X) * size
    assert model.objective_ == pytest.approx(np.abs(y - best).sum(), rel=1e-9)


def test_an_unsolved_program_is_left_to_newton(monkeypatch):
    X, y = problem()
    wanted = LpRegression(p=1, n_rows=300).fit(X, y)

    def unsolved(C, b):
        raise RuntimeError("linear programming failed")

    monkeypatch.setattr("lodim.geometry.sensitivity_sampling.regression.median_regression", unsolved)
    found = LpRegression(p=1, n_rows=300).fit(X, y)
    assert wanted.objective_ <= found.objective_ * (1 + 1e-12)
    assert found.objective_ == pytest.approx(wanted.objective_, rel=1e-5)
    assert found.gap_ < 1e-5


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([1.0, 1.5, 3.0]),
    st.floats(-14, 14),
    st.lists(st.floats(-14, 14), min_size=4, max_size=4),
    st.booleans(),
)
def test_the_fit_follows_the_units(p, of_target, of_columns, fit_intercept):
    X, y = problem(200)
    c, units = 10**of_target, 10 ** np.array(of_columns)
    plain = LpRegression(p=p, n_rows=100, fit_intercept=fit_intercept, random_state=0).fit(X, y)
    model = LpRegression(p=p, n_rows=100, fit_intercept=fit_intercept, random_state=0).fit(X * units, c * y)
    assert np.array_equal(model.coreset_idx_, plain.coreset_idx_)
    assert model.coef_ * units / c == pytest.approx(plain.coef_, rel=1e-6)
    assert model.intercept_ / c == pytest.approx(plain.intercept_, rel=1e-6)
    assert model.objective_ / c == pytest.approx(plain.objective_, rel=1e-9)
    assert model.lower_bound_ / c == pytest.approx(plain.lower_bound_, rel=1e-6)
    best = LpRegression(p=p, n_rows=200, fit_intercept=fit_intercept).fit(X, y).objective_
    assert model.lower_bound_ <= c * best * (1 + 1e-9)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("period", [1e15, 1e9, 1e6])
def test_a_clock_in_nanoseconds_is_a_column_like_any_other(p, period):
    rng = np.random.default_rng(0)
    steps = np.round(rng.uniform(0, period, 500) / 256) * 256  # the clock's resolution in double precision
    small = rng.standard_normal(500)
    noise = rng.standard_t(2, 500)
    X = np.c_[1.7e18 + steps, small]
    model = LpRegression(p=p, n_rows=500).fit(X, 3e9 + 5 * steps / period + 2 * small + noise)
    plain = LpRegression(p=p, n_rows=500).fit(
        np.c_[steps / period, small], 5 * steps / period + 2 * small + noise
    )
    assert model.coef_ * [period, 1] == pytest.approx(plain.coef_, rel=1e-5)
    assert model.objective_ == pytest.approx(plain.objective_, rel=1e-6)
    assert -1e-9 < model.gap_ < 1e-6


def test_columns_sixteen_decades_apart_keep_their_coefficients():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 3))
    units = np.array([1e16, 1.0, 1e-16])
    y = X @ [1.0, 2.0, 3.0] + 0.1 * rng.standard_normal(500)
    for p in (1.0, 1.5, 2.0, 3.0):
        model = LpRegression(p=p, random_state=0).fit(X * units, y)
        assert model.coef_ * units == pytest.approx([1.0, 2.0, 3.0], abs=0.1)
        assert model.gap_ < 0.5
        assert model.predict(X * units) == pytest.approx(X @ (model.coef_ * units) + model.intercept_)


def test_dependent_columns_of_other_size_get_the_shortest_coefficients():
    X, y = problem()
    wide = np.c_[X, 1e3 * X[:, :1], 1e-12 * X[:, 1]]
    model = LpRegression(p=2, n_rows=300, fit_intercept=False).fit(wide, y)
    plain = np.linalg.lstsq(X, y)[0]
    assert model.coef_[[0, 4]] == pytest.approx(plain[0] * np.array([1, 1e3]) / (1 + 1e6), rel=1e-8)
    assert model.coef_[[1, 5]] == pytest.approx(plain[1] * np.array([1, 1e-12]), rel=1e-8)
    assert model.coef_[2:4] == pytest.approx(plain[2:], rel=1e-8)


def test_what_double_precision_cannot_predict_is_said():
    rng = np.random.default_rng(0)
    steps = 256.0 * rng.permutation(500)
    y = steps / 256 + rng.normal(size=500)
    with pytest.warns(UserWarning, match="subtract"):
        LpRegression(p=2, n_rows=500).fit(np.c_[1.7e18 + steps, rng.normal(size=500)], 1e3 * y)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_fits_at_the_ends_of_the_range_of_floats_and_of_constants(p, recwarn):
    X, y = problem(60, 2)
    plain = LpRegression(p=p, random_state=0).fit(X, y)
    model = LpRegression(p=p, random_state=0).fit(2.0**600 * X, 2.0**700 * y)
    assert model.coef_ * 2.0**-100 == pytest.approx(plain.coef_, rel=1e-6)
    assert model.gap_ == pytest.approx(plain.gap_, abs=1e-6)
    assert LpRegression(p=p).fit(X, np.full(60, 0.7)).gap_ == 0
    assert not recwarn.list


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


@pytest.mark.parametrize(("fit_intercept", "least"), [(True, 5), (False, 4)])
def test_fewer_rows_than_coefficients_are_refused(fit_intercept, least):
    X, y = problem()
    X = X[:, :4]
    with pytest.raises(ValueError, match=f"n_rows must be at least {least}, .* got {least - 1}: give some"):
        LpRegression(n_rows=least - 1, fit_intercept=fit_intercept).fit(X, y)
    LpRegression(n_rows=least - 1, fit_intercept=fit_intercept, tol=0.1, random_state=0).fit(X, y)  # doubles
    again = np.c_[X, X]  # no more coefficients to find than before
    LpRegression(p=2, n_rows=50, fit_intercept=fit_intercept, random_state=0).fit(again, y)


def test_a_coreset_that_leaves_coefficients_open_says_so():
    """Ten rows for ten coefficients are ten in expectation only: some draw has fewer."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 10)), rng.standard_normal(300)
    said = []
    for seed in range(10):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = LpRegression(p=2, n_rows=10, fit_intercept=False, random_state=seed).fit(X, y)
        said.append(any("dimensions" in str(w.message) for w in caught))
        assert said[-1] == (len(model.coreset_idx_) < 10)
    assert any(said)


def test_score_is_that_of_the_predictions_and_refuses_masked_numbers():
    X, y = problem()
    model, weight = LpRegression(p=2, n_rows=len(X)).fit(X, y), np.linspace(0, 1, len(X))
    assert model.score(X, y, weight) == pytest.approx(r2_score(y, model.predict(X), sample_weight=weight))
    masked = np.ma.masked_greater(y, np.median(y))
    with pytest.raises(ValueError, match="masked"):
        model.score(X, masked)
    with pytest.raises(
        ValueError, match=f"y has {(y > 0).sum()} infinite values, the first at {(y > 0).argmax()}"
    ):
        model.score(X, np.where(y > 0, np.inf, y))
