"""What must hold of supervised-dictionary whatever the data: identities, invariances, limits."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.optimize import minimize, nnls
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

import lodim.partition.supervised_dictionary as system
from lodim.partition import SupervisedDictionary, simulate_dictionary, trade_off_curve
from lodim.partition.supervised_dictionary import solvers
from lodim.partition.supervised_dictionary.solvers import Problem, Solution

BOTH = pytest.mark.parametrize("model", ["filter", "feature"])


def test_the_module_names_its_source():
    assert "2206.06774" in system.__doc__


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X[:, 10:]), y, scale(X[:, :10])


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, y


def planted(n, seed=0, **options):
    """Two strong atoms and a weak one that says the label, and two auxiliary covariates: the atoms, and samples."""
    unit = np.linalg.qr(np.random.default_rng(5).normal(size=(12, 3)))[0].T
    W = unit * np.array([[3.0], [2.0], [1.0]])
    data = simulate_dictionary(
        n, W, [[0.0, 0.1, 2.0]], aux_coef=[[1.0, -0.5]], intercept=0.3, noise=0.3, random_state=seed, **options
    )  # fmt: skip
    return W, data


def problem_of(X, y, aux=None, *, xi=0.1, alpha=1.0, l1=0.0, model="filter"):
    Z = np.c_[np.empty((len(X), 0)) if aux is None else aux, np.ones(len(X))]
    Y = (y[:, None] == np.unique(y)[1:]).astype(float)
    return Problem(X, Y, Z, np.linspace(0.5, 1.5, len(X)), xi, alpha, l1, model == "filter")


def objective(problem, H, W, beta, Gamma):
    """F as the paper has it, in torch, from its own cross entropy."""
    X, Z, Y = (torch.from_numpy(part) for part in (problem.X, problem.Z, problem.Y))
    logits = (X @ W.T if problem.is_filter else H) @ beta + Z @ Gamma
    full = torch.cat([torch.zeros(len(X), 1, dtype=X.dtype), logits], 1)
    label = torch.where(Y.sum(1) > 0, Y.argmax(1) + 1, 0)
    loss = torch.nn.functional.cross_entropy(full, label, reduction="none")
    A = W.T @ beta if problem.is_filter else H @ beta
    penalty = problem.alpha * (A.square().sum() + Gamma[:-1].square().sum())
    rest = problem.xi * (X - H @ W).square().sum()
    return (loss * torch.from_numpy(problem.weight)).sum() + penalty + rest + problem.l1 * H.abs().sum()


def slopes(problem, at):
    """Gradients of F at a factored point, by autograd."""
    parts = [torch.tensor(part, requires_grad=True) for part in (at.H, at.W, at.beta, at.Gamma)]
    return [slope.numpy() for slope in torch.autograd.grad(objective(problem, *parts), parts)]


# ------------------------------------------------------------------------------------------- the objective


@BOTH
def test_the_objective_and_its_gradient_are_those_of_autograd(model, iris):
    X, y = iris
    rng = np.random.default_rng(0)
    problem = problem_of(X, y, rng.normal(size=(150, 2)), l1=0.3, model=model)
    at = Solution(*(rng.normal(size=shape) for shape in ((150, 3), (3, 4), (3, 2), (3, 2))))
    assert problem.objective(at) == pytest.approx(
        float(objective(problem, *map(torch.from_numpy, (at.H, at.W, at.beta, at.Gamma)))), rel=1e-12
    )
    logits = problem.read(at.H, at.W) @ at.beta + problem.Z @ at.Gamma
    slope = problem.Z.T @ problem.label_loss(logits)[1] + 2 * problem.free[:, None] * at.Gamma
    np.testing.assert_allclose(slope, slopes(problem, at)[3], rtol=1e-10)
    huge, residual = problem.label_loss(1e6 * logits)
    assert np.isfinite(huge)
    assert np.isfinite(residual).all()


@BOTH
def test_the_labels_coefficients_are_stationary(model, iris):
    X, y = iris
    rng = np.random.default_rng(0)
    problem = problem_of(X, y, 1000 * rng.normal(size=(150, 2)), model=model)
    start = Solution(*(rng.normal(size=shape) for shape in ((150, 3), (3, 4), (3, 2), (3, 2))))
    before, after = slopes(problem, start), slopes(problem, solvers.with_labels(problem, start))
    for old, new in zip(before[2:], after[2:], strict=True):
        assert np.abs(new).max() < 1e-6 * np.abs(old).max()


@BOTH
def test_both_solvers_end_at_the_same_stationary_point(model, cancer):
    X, y, aux = cancer
    problem = problem_of(X, y, aux, xi=0.05, model=model)
    ends = [
        solvers.with_labels(problem, at)
        for at in (
            solvers.lpgd(problem, 3, 3000, 1e-11, 0),
            solvers.bcd(problem, 3, (False, False), 3000, 1e-11, 0),
        )
    ]
    assert problem.objective(ends[0]) == pytest.approx(problem.objective(ends[1]), rel=1e-8)
    for at in ends:
        elsewhere = slopes(problem, Solution(0.9 * at.H, 1.1 * at.W, 0.9 * at.beta, 0.9 * at.Gamma))
        for slope, reference in zip(slopes(problem, at), elsewhere, strict=True):
            assert np.abs(slope).max() < 1e-3 * np.abs(reference).max()


# ------------------------------------------------------------------------------------------- the solvers


def plainly(step, start, max_iter, tol, rounding):
    """Steps without extrapolation, whether F falls or not."""
    now, trace = start, []
    for _ in range(max_iter):
        value, now = step(now, now, 0.0)
        trace.append(value)
    return now, tuple(trace), True


def as_in_the_paper(X, Y, r, xi, alpha, steps, model):
    """Low-rank projected gradient in the paper's letters: samples are columns, B is held and moved, SVD by LAPACK."""
    X, Y, is_filter = X.T, Y.T, model == "filter"
    p, n = X.shape
    bound = 0.25 if len(Y) == 1 else 0.5
    L_A = 2 * alpha + bound * (np.linalg.norm(X, 2) ** 2 if is_filter else 1.0)
    L_B, L_gamma = 2 * xi, bound * n
    c = np.sqrt(L_A / L_B)
    A = np.zeros((p, len(Y))) if is_filter else np.zeros((len(Y), n))
    B, gamma = np.zeros((p, n)), np.zeros((len(Y), 1))

    def residual():
        a = (A.T @ X if is_filter else A) + gamma
        g = np.exp(a) / (1 + np.exp(a).sum(0))
        return g - Y

    for _ in range(steps):
        gamma = gamma - residual().sum(1, keepdims=True) / L_gamma
        slope = (X @ residual().T if is_filter else residual()) + 2 * alpha * A
        A, B = A - slope / L_A, B - 2 * xi * (B - X) / L_B
        u, s, v = np.linalg.svd(
            np.hstack([c * A, B]) if is_filter else np.vstack([c * A, B]), full_matrices=False
        )
        stack = u[:, :r] * s[:r] @ v[:r]
        A, B = (
            (stack[:, : len(Y)] / c, stack[:, len(Y) :])
            if is_filter
            else (stack[: len(Y)] / c, stack[len(Y) :])
        )
    return A, B, gamma


@BOTH
def test_the_lifted_steps_are_the_papers_and_factors_give_back_what_they_factor(model, iris, monkeypatch):
    X, y = iris
    monkeypatch.setattr(solvers, "falling", plainly)
    problem = Problem(X, (y[:, None] == [1, 2]).astype(float), np.ones((150, 1)), np.ones(150), 0.3, 0.5, 0.0,
                      model == "filter")  # fmt: skip
    problem.__dict__["steepness"] = problem.bound * (np.linalg.norm(X, 2) ** 2 if model == "filter" else 1.0)
    at = solvers.lpgd(problem, 2, 25, 0.0, 0)
    A, B, gamma = as_in_the_paper(X, problem.Y, 2, 0.3, 0.5, 25, model)
    ours = at.W.T @ at.beta if model == "filter" else (at.H @ at.beta).T
    np.testing.assert_allclose(ours, A, atol=1e-8)
    np.testing.assert_allclose((at.H @ at.W).T, B, atol=1e-8)
    np.testing.assert_allclose(at.Gamma.T, gamma, atol=1e-8)
    stack = np.hstack([A, B]) if model == "filter" else np.vstack([A, B])
    assert np.linalg.matrix_rank(stack, tol=1e-8) <= 2


def wide(n=260, p=150, seed=0):
    """Enough rows and columns for the sampled projection; a spectrum that decays slowly, the worst for it."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) / np.arange(1, p + 1) ** 0.2
    return X, (X @ rng.normal(size=p) + rng.normal(size=n) > 0).astype(int)


@BOTH
@pytest.mark.parametrize("xi", [1e-4, 0.01, 1.0])
def test_plain_steps_never_raise_the_objective_though_the_projection_is_one_pass(model, xi, monkeypatch):
    X, y = wide()
    monkeypatch.setattr(solvers, "falling", plainly)
    trace = np.array(solvers.lpgd(problem_of(X, y, X[:, :2], xi=xi, model=model), 4, 30, 0.0, 0).trace)
    assert (np.diff(trace) <= 1e-12 * trace[1:]).all()
    monkeypatch.setattr(solvers, "_SMALL", 1000)
    whole = solvers.lpgd(problem_of(X, y, X[:, :2], xi=xi, model=model), 4, 30, 0.0, 0).trace
    assert trace[-1] == pytest.approx(whole[-1], rel=2e-3)


@BOTH
@pytest.mark.parametrize("nonneg", [(False, False), (True, False), (False, True), (True, True)])
def test_cycles_never_raise_the_objective_and_signs_hold(model, nonneg, iris, monkeypatch):
    X, y = (part[::3] for part in iris)
    monkeypatch.setattr(solvers, "falling", plainly)
    for l1 in (0.0, 0.2):
        problem = problem_of(X, y, model=model, xi=0.05, l1=l1)
        at = solvers.bcd(problem, 3, nonneg, 15, 0.0, 0)
        trace = np.array(at.trace)
        assert (np.diff(trace) <= 1e-12 * trace[1:]).all()
        assert not nonneg[0] or (at.W >= 0).all()
        assert not nonneg[1] or (at.H >= 0).all()
        np.testing.assert_allclose(np.linalg.norm(at.W, axis=1), 1)


def test_momentum_starts_anew_where_it_would_rise():
    seen = []

    def step(now, last, ahead):
        seen.append(ahead)
        x = now + 3 * ahead * (now - last)  # far too much of it
        x = x - 0.9 * x
        return x * x + 1, x

    point, trace, settled = solvers.falling(step, 10.0, 100, 1e-9, 0.0)
    assert settled
    assert abs(point) < 1e-3
    assert (np.diff(trace) <= 0).all()
    assert 0.0 in seen[1:]


def test_codes_are_those_of_other_libraries(iris):
    X, W = iris[0][::10], np.linalg.qr(np.random.default_rng(1).normal(size=(4, 3)))[0].T
    W = np.abs(W) / np.linalg.norm(W, axis=1, keepdims=True)
    expected = np.array([nnls(W.T, x)[0] for x in X])
    np.testing.assert_allclose(solvers.sparse_codes(X, W, nonneg=True, l1=0.0), expected, atol=1e-6)
    lasso = sparse_encode(
        X, W, algorithm="lasso_cd", alpha=0.5, max_iter=10_000
    )  # half of our penalty and loss
    ours = solvers.sparse_codes(X, W, nonneg=False, l1=1.0)
    value = [((X - H @ W) ** 2).sum() + np.abs(H).sum() for H in (ours, lasso)]
    assert value[0] <= value[1] * (1 + 1e-6)


def test_codes_that_have_not_settled_are_said_to_be_so():
    rng = np.random.default_rng(0)
    W = rng.normal(size=5) + 0.01 * rng.normal(size=(3, 5))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    X = rng.normal(size=(20, 3)) @ W
    with pytest.warns(ConvergenceWarning, match="nearly parallel"):
        H = solvers.sparse_codes(X, W, nonneg=True, l1=0.0)
    expected = np.array([nnls(W.T, x)[0] for x in X])
    # that is true: they are not those of another library
    assert np.abs(H - expected).max() > 0.1


# ------------------------------------------------------------------------------------------- limits


def test_with_all_atoms_it_is_logistic_regression(cancer):
    X, y, _ = cancer
    X = X[:, :6]
    for xi in (0.0, 0.1):
        model = SupervisedDictionary(6, xi=xi, alpha=0.7).fit(X, y)
        oracle = LogisticRegression(C=1 / 1.4, tol=1e-10, max_iter=10_000).fit(X, y)
        np.testing.assert_allclose(model.coef_ @ model.dictionary_, oracle.coef_, atol=1e-5)
        np.testing.assert_allclose(model.intercept_, oracle.intercept_, atol=1e-5)
        np.testing.assert_allclose(model.reconstruct(X), X, atol=1e-10)


def test_without_reconstruction_it_is_logistic_regression_of_low_rank(cancer, iris):
    X, y, aux = cancer
    model = SupervisedDictionary(2, xi=0.0, tol=1e-12, max_iter=20_000).fit(X, y, aux)
    oracle = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(np.c_[X, aux], y)
    found = np.c_[model.coef_ @ model.dictionary_, model.aux_coef_]
    np.testing.assert_allclose(found, oracle.coef_, atol=1e-3)
    direction = oracle.coef_[0, :20] / np.linalg.norm(oracle.coef_[0, :20])
    rest = X - np.outer(X @ direction, direction)  # the atom that is free takes the best of it
    least = (np.linalg.svd(rest, compute_uv=False)[1:] ** 2).sum() / (X**2).sum()
    assert model.reconstruction_error_ == pytest.approx(least, rel=1e-3)
    nearly = SupervisedDictionary(2, xi=1e-7, tol=1e-12, max_iter=20_000).fit(X, y, aux)
    np.testing.assert_allclose(nearly.predict_proba(X, aux), model.predict_proba(X, aux), atol=1e-3)
    one = SupervisedDictionary(1, xi=0.0).fit(*iris)
    assert np.linalg.matrix_rank(one.coef_ @ one.dictionary_) == 1


@BOTH
def test_with_much_reconstruction_it_is_singular_vectors_then_logistic_regression(model, cancer):
    X, y, _ = cancer
    V = np.linalg.svd(X, full_matrices=False)[2][:3]
    sides = {}
    for xi in (1e6, np.inf):
        fitted = sides[xi] = SupervisedDictionary(3, model=model, xi=xi).fit(X, y)
        np.testing.assert_allclose(
            fitted.dictionary_.T @ np.linalg.pinv(fitted.dictionary_.T), V.T @ V, atol=1e-4
        )
    np.testing.assert_allclose(sides[1e6].predict_proba(X), sides[np.inf].predict_proba(X), atol=1e-3)
    if model == "filter":
        oracle = LogisticRegression(C=0.5, tol=1e-10).fit(X @ V.T, y)
        np.testing.assert_allclose(sides[np.inf].predict_proba(X), oracle.predict_proba(X @ V.T), atol=1e-5)


def test_the_models_agree_where_the_data_have_that_many_dimensions():
    _, data = planted(400)
    X = data.codes @ planted(1)[0]
    proba = [
        SupervisedDictionary(3, model=model, xi=1e4, alpha=0.0).fit(X, data.y).predict_proba(X)
        for model in ("filter", "feature")
    ]
    np.testing.assert_allclose(*proba, atol=2e-3)


def test_planted_coefficients_are_found():
    W, data = planted(4000)
    model = SupervisedDictionary(3, xi=1 / (2 * 0.3**2)).fit(data.X, data.y, data.aux)
    A, truth = (model.coef_ @ model.dictionary_)[0], W.T @ [0.0, 0.1, 2.0]
    assert np.linalg.norm(A - truth) < 0.1 * np.linalg.norm(truth)
    np.testing.assert_allclose(model.aux_coef_, [[1.0, -0.5]], atol=0.15)
    np.testing.assert_allclose(model.intercept_, 0.3, atol=0.15)
    rest = data.codes @ W
    assert np.linalg.norm(model.reconstruct(data.X) - rest) < 0.2 * np.linalg.norm(rest)


def test_xi_is_found_from_the_noise():
    _, data = planted(2000)
    model = SupervisedDictionary(3, xi="auto").fit(data.X, data.y)
    assert model.xi_ == pytest.approx(1 / (2 * 0.3**2), rel=0.05)
    with pytest.raises(ValueError, match="noise to measure"):
        SupervisedDictionary(3, xi="auto").fit(data.X[:, :3], data.y)


# ------------------------------------------------------------------------------------------- invariances


def test_zeros_as_auxiliary_covariates_change_nothing(cancer):
    X, y, _ = cancer
    plain = SupervisedDictionary(2).fit(X, y)
    zeros = SupervisedDictionary(2).fit(X, y, np.zeros((len(X), 3)))
    np.testing.assert_allclose(
        zeros.predict_proba(X, np.ones((len(X), 3))), plain.predict_proba(X), atol=1e-7
    )
    assert not zeros.aux_coef_.any()


@BOTH
def test_names_of_labels_do_not_matter(model, cancer):
    X, y, aux = cancer
    numbers = SupervisedDictionary(2, model=model).fit(X, y, aux)
    texts = SupervisedDictionary(2, model=model).fit(X, np.array(["a", "b"], dtype=object)[y], aux)
    swapped = SupervisedDictionary(2, model=model).fit(X, 1 - y, aux)
    assert (texts.objective_ == numbers.objective_).all()
    np.testing.assert_allclose(
        swapped.predict_proba(X, aux)[:, ::-1], numbers.predict_proba(X, aux), atol=1e-5
    )
    assert set(texts.predict(X, aux)) == {"a", "b"}


@BOTH
def test_a_unit_of_the_data_moves_into_xi_and_alpha(model, cancer):
    X, y, _ = cancer
    unit = 1024.0
    plain = SupervisedDictionary(2, model=model, xi=0.1).fit(X, y)
    other = SupervisedDictionary(
        2, model=model, xi=0.1 / unit**2, alpha=unit**2 if model == "filter" else 1.0
    ).fit(unit * X, y)
    np.testing.assert_allclose(other.predict_proba(unit * X), plain.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(other.transform(unit * X), unit * plain.transform(X), atol=1e-4 * unit)


def test_a_class_of_weight_two_counts_as_if_each_of_its_rows_came_twice(cancer):
    X, y, _ = cancer
    twice = np.r_[np.arange(len(y)), np.flatnonzero(y)]
    options = {"xi": 0.0, "tol": 1e-10, "max_iter": 5000}
    weighted = SupervisedDictionary(2, class_weight={0: 1, 1: 2}, **options).fit(X, y)
    repeated = SupervisedDictionary(2, **options).fit(X[twice], y[twice])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-3)


def test_balanced_weights_find_more_of_a_rare_class(cancer):
    X, y, _ = cancer
    few = np.r_[np.flatnonzero(y), np.flatnonzero(y == 0)[:20]]
    recall = [
        (SupervisedDictionary(2, class_weight=w).fit(X[few], y[few]).predict(X[y == 0]) == 0).mean()
        for w in (None, "balanced")
    ]
    assert recall[1] > recall[0]


# ------------------------------------------------------------------------------------------- the estimator


def test_the_exhaustive_decision_is_the_best_label_with_its_best_code(iris):
    X, y = iris
    model = SupervisedDictionary(2, model="feature", xi=0.5, alpha=0.3, decision="exhaustive").fit(X, y)

    def value(h, x, label):
        logits = np.append(0, h @ model.coef_.T + model.intercept_)
        fit = 0.5 * ((x - h @ model.dictionary_) ** 2).sum() + 0.3 * ((h @ model.coef_.T) ** 2).sum()
        return np.logaddexp.reduce(logits) - logits[label] + fit

    least = np.array([
        [minimize(value, np.zeros(2), (x, c), tol=1e-9).fun for c in range(3)] for x in X[::30]
    ])  # fmt: skip
    expected = np.exp(-least) / np.exp(-least).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X[::30]), expected, atol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("xi", [0.01, 1.0])
def test_exhaustive_codes_settle_also_without_a_penalty_and_row_by_row(xi, cancer):
    X, y = (part[::3] for part in cancer[:2])
    model = SupervisedDictionary(
        3, model="feature", xi=xi, alpha=0.0, decision="exhaustive", max_iter=3000
    ).fit(X, y)  # fmt: skip
    probability = model.predict_proba(X[:5])

    def value(h, x, label):
        logit = float(h @ model.coef_[0] + model.intercept_[0])
        return np.logaddexp(0, logit) - label * logit + xi * ((x - h @ model.dictionary_) ** 2).sum()

    least = np.array([
        [minimize(value, model.transform([x])[0], (x, c), tol=1e-12).fun for c in (0, 1)] for x in X[:5]
    ])  # fmt: skip
    expected = np.exp(least[:, :1] - least) / np.exp(least[:, :1] - least).sum(1, keepdims=True)
    np.testing.assert_allclose(probability, expected, atol=1e-6)
    beside = np.r_[1e8 * X[:1], X[1:5]]  # a row of another size
    np.testing.assert_allclose(model.predict_proba(beside)[1:], probability[1:], atol=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("solver", ["lpgd", "bcd"])
@pytest.mark.parametrize("xi", [0.1, 10.0, 1e13, np.inf])
def test_atoms_beyond_the_rank_of_x_are_refused_where_their_codes_would_see_labels_only(solver, xi, iris):
    X, y = np.c_[iris[0][:, :2], iris[0][:, :2]], iris[1]
    with pytest.raises(ValueError, match="rank of X in the feature model, got 3"):
        SupervisedDictionary(3, model="feature", solver=solver, xi=xi).fit(X, y)
    assert np.isfinite(SupervisedDictionary(2, model="feature", solver=solver, xi=xi).fit(X, y).coef_).all()
    assert np.abs(SupervisedDictionary(3, solver=solver, xi=xi).fit(X, y).coef_).max() < 1e3


def test_a_step_says_that_it_was_not_the_last(cancer):
    X, y, _ = cancer
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        model = SupervisedDictionary(2, max_iter=3).fit(X, y)
    assert model.n_iter_ == 3
    assert len(model.objective_) == 4
    assert (np.diff(model.objective_) <= 0).all()


def test_covariates_belong_to_the_fit_and_to_every_use(cancer):
    X, y, aux = cancer
    frame = pd.DataFrame(aux).add_prefix("v")
    model = SupervisedDictionary(2).fit(X, y, frame)
    assert model.aux_coef_.shape == (1, 10)
    with pytest.raises(ValueError, match="aux must be given"):
        model.predict(X)
    with pytest.raises(ValueError, match="in their order"):
        model.predict_proba(X, frame[frame.columns[::-1]])
    with pytest.raises(ValueError, match="must have shape"):
        model.predict(X, aux[:, :3])
    with pytest.raises(ValueError, match="left out"):
        SupervisedDictionary(2).fit(X, y).score(X, y, aux=aux)
    with pytest.raises(ValueError, match="aux"):
        SupervisedDictionary(2).fit(X, y, aux[:50])


def test_a_grid_search_passes_covariates_on(cancer):
    X, y, aux = cancer
    with sklearn.config_context(enable_metadata_routing=True):
        model = SupervisedDictionary(2).set_fit_request(aux=True).set_score_request(aux=True)
        search = GridSearchCV(model, {"xi": [0.01, 1.0]}, cv=3).fit(X, y, aux=aux)
    assert search.best_score_ > 0.94
    assert SupervisedDictionary(2).fit_transform(X, y, aux=aux).shape == (len(X), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 5}, "n_features = 4"),
        ({"nonneg": (True, False)}, "solver='bcd'"),
        ({"l1": 1.0}, "solver='bcd'"),
        ({"xi": 0, "model": "feature"}, "feature model"),
        ({"xi": 0, "l1": 1.0, "solver": "bcd"}, "weighed against xi"),
        ({"decision": "exhaustive"}, "feature model"),
        ({"xi": "half"}, "'auto'"),
        ({"xi": 1e308}, "use inf"),
        ({"nonneg": (True,)}, "pair"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, iris):
    with pytest.raises(ValueError, match=message):
        SupervisedDictionary(**options).fit(*iris)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_numbers_without_squares_are_refused(factor, iris):
    X, y = iris
    with pytest.raises(ValueError, match="rescale"):
        SupervisedDictionary().fit(factor * X, y)
    with pytest.raises(ValueError, match="aux must have entries"):
        SupervisedDictionary().fit(X, y, factor * X)
    if factor > 1:
        model = SupervisedDictionary().fit(X, y, X)
        for use in (model.transform, model.reconstruct, lambda rows: model.predict_proba(rows, X)):
            with pytest.raises(ValueError, match="X must have entries"):
                use(factor * X)
        with pytest.raises(ValueError, match="aux must have entries"):
            model.predict(X, factor * X)
        with pytest.raises(ValueError, match="finite"):
            simulate_dictionary(5, [[factor]], [[factor]])


@pytest.mark.parametrize("solver", ["lpgd", "bcd"])
@BOTH
def test_repeated_rows_and_columns_that_say_nothing_are_no_obstacle(model, solver, iris):
    X, y = iris
    X = np.c_[X, np.zeros(150), np.full(150, 2.0), X[:, 0]]
    X, y = np.r_[X, X], np.r_[y, y]
    fitted = SupervisedDictionary(2, model=model, solver=solver, alpha=1e-3, xi=10, max_iter=2000).fit(X, y)
    assert np.isfinite(fitted.dictionary_).all()
    assert fitted.score(X, y) > 0.9
    if model == "filter":
        nothing = SupervisedDictionary(2, solver=solver).fit(0 * X, y)
        np.testing.assert_allclose(nothing.predict_proba(0 * X), 1 / 3, atol=1e-6)
        below = SupervisedDictionary(2, solver="bcd", nonneg=(True, True)).fit(-X, y)
        assert not below.transform(-X).any()
        assert below.reconstruction_error_ == 1


# ------------------------------------------------------------------------------------------- the studies


def test_simulated_labels_follow_the_model():
    W, data = planted(20_000, model="feature")
    logits = data.codes @ [0.0, 0.1, 2.0] + data.aux @ [1.0, -0.5] + 0.3
    expected = 1 / (1 + np.exp(-logits))
    for low in (0.0, 0.25, 0.5, 0.75):
        some = (expected >= low) & (expected < low + 0.25)
        assert data.y[some].mean() == pytest.approx(expected[some].mean(), abs=0.03)
    assert (data.X - data.codes @ W).std() == pytest.approx(0.3, rel=0.02)


def test_accuracy_is_paid_for_in_reconstruction():
    _, data = planted(400)
    curve = trade_off_curve(
        SupervisedDictionary(1), data.X, data.y, data.aux, xi=(1.0, 0.001, 0.1), n_folds=2
    )
    assert (np.diff(curve.reconstruction_error) <= 2e-3).all()
    assert curve.accuracy[0] > curve.accuracy[-1]
    assert curve.plot().has_data()
    limits = trade_off_curve(SupervisedDictionary(1), data.X, data.y, data.aux, xi=(0.0, np.inf), n_folds=2)
    assert type(limits).from_json(limits.to_json()).xi == (0.0, np.inf)
    with pytest.raises(ValueError, match="rows"):
        trade_off_curve(SupervisedDictionary(1), data.X, data.y, data.aux[:9])
