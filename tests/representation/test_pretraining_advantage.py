"""What must hold of pretraining-advantage whatever the data: identities, invariances, limits."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline

import lodim.representation.pretraining_advantage as system
from lodim.metrics import learning_curve_exponent
from lodim.representation import (
    ContrastivePretrainer,
    FactorModel,
    FactorPretrainer,
    JointMixtureClassifier,
    MixtureModel,
    MixturePretrainer,
    PairModel,
    PretrainedClassifier,
    PretrainedRegressor,
    informativeness,
    learning_surface,
    posterior_of,
    predict_excess_risk,
    supervised_baselines,
)
from lodim.representation.pretraining_advantage import predictors
from lodim.validation import ConvergenceWarning

MODEL = FactorModel.random(12, 2, scale=0.8, random_state=0)


def test_the_module_names_its_source():
    assert "2303.01566" in system.__doc__


# ---- factors


@pytest.mark.parametrize("n", [8, 300])  # the smaller side is that of rows, of columns
@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_the_posterior_is_that_of_the_joint_gaussian(n, noise):
    """Cov(z, x) Cov(x)^-1 and the density of N(mean, B B' + noise), both by the matrix of d columns."""
    X = MODEL.sample(n, 1)[0]
    model = FactorPretrainer(2, noise).fit(X)
    B, covariance = model.loadings_, model.loadings_ @ model.loadings_.T + np.diag(model.noise_variance_)
    np.testing.assert_allclose(
        model.posterior(X), (X - model.mean_) @ np.linalg.solve(covariance, B), atol=1e-7
    )
    density = multivariate_normal(model.mean_, covariance).logpdf(X)
    np.testing.assert_allclose(model.score_samples(X), density, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [9, 200])
def test_isotropic_factors_are_stationary(n):
    """At the likeliest B, S (B B' + s2)^-1 B = B, and s2 keeps the total variance (Tipping and Bishop)."""
    X = MODEL.sample(n, 2)[0]
    S = np.cov(X.T, bias=True)
    model = FactorPretrainer(3).fit(X)
    B, s2 = model.loadings_, model.noise_variance_[0]
    covariance = B @ B.T + s2 * np.eye(12)
    np.testing.assert_allclose(S @ np.linalg.solve(covariance, B), B, atol=1e-8)
    assert np.trace(covariance) == pytest.approx(np.trace(S))


def test_isotropic_data_have_the_likelihood_of_factor_analysis():
    X = FactorModel.random(8, 2, scale=1.0, random_state=1).sample(6000, 0)[0]
    ours, theirs = FactorPretrainer(2).fit(X), FactorAnalysis(2, tol=1e-6).fit(X)
    assert ours.score(X) == pytest.approx(theirs.score(X), abs=1e-3)
    assert FactorPretrainer(2, "diagonal").fit(X).score(X) == pytest.approx(theirs.score(X), abs=1e-4)


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
@pytest.mark.parametrize("how", ["bic", "parallel"])
def test_factors_are_counted_and_none_is_a_count(noise, how):
    X, y = MODEL.sample(400, 3)
    assert FactorPretrainer(how, noise, random_state=0).fit(X).n_components_ == 2
    bare = FactorPretrainer(how, noise, random_state=0).fit(np.random.default_rng(0).normal(size=(400, 12)))
    assert bare.n_components_ == 0
    assert bare.posterior(X).shape == (400, 0)
    assert np.isfinite(bare.score(X))
    model = PretrainedRegressor(FactorPretrainer(how, noise, random_state=0))
    flat = model.fit(np.random.default_rng(0).normal(size=(400, 12)), y)
    np.testing.assert_allclose(flat.predict(X[:3]), y.mean())
    sure = PretrainedClassifier(FactorPretrainer(how, noise, random_state=0))
    sure.fit(np.random.default_rng(0).normal(size=(400, 12)), y > 0)
    np.testing.assert_allclose(sure.predict_proba(X[:3]), [[np.mean(y <= 0), np.mean(y > 0)]] * 3)


@pytest.mark.parametrize(("how", "at_most"), [("bic", 0), ("parallel", 6)])
def test_few_rows_in_many_columns_have_no_factors_of_their_own(how, at_most):
    """Shuffled columns are as likely as these: the first eigenvalue is the largest of 21 in one of 21 draws."""
    found = []
    for seed in range(40):
        X = np.random.default_rng(seed).normal(size=(20, 60))
        found.append(FactorPretrainer(how, random_state=seed).fit(X).n_components_ > 0)
    assert sum(found) <= at_most


def test_diagonal_noise_makes_units_irrelevant():
    X = MODEL.sample(300, 4)[0]
    scale = np.geomspace(1e-3, 1e3, 12)
    one, other = FactorPretrainer(2, "diagonal").fit(X), FactorPretrainer(2, "diagonal").fit(X * scale)
    np.testing.assert_allclose(one.posterior(X), other.posterior(X * scale), atol=1e-6)


def test_predictions_do_not_depend_on_the_turn_of_factors():
    X, y = MODEL.sample(60, 5)

    class Turned(FactorPretrainer):
        def posterior(self, X):
            turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
            return super().posterior(X) @ turn

    plain, turned = (
        PretrainedRegressor(each(2)).fit(X[:9], y[:9], X[9:]) for each in (FactorPretrainer, Turned)
    )
    np.testing.assert_allclose(plain.predict(X), turned.predict(X), atol=1e-10)


def test_rows_in_few_directions_have_no_noise():
    X = np.random.default_rng(0).normal(size=(30, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
    model = FactorPretrainer("bic").fit(X)
    assert model.n_components_ == 2
    np.testing.assert_allclose(model.posterior(X) @ model.loadings_.T + model.mean_, X, atol=1e-8)
    with pytest.raises(ValueError, match="no density"):
        model.score_samples(X)


def test_many_labels_reach_the_bayes_risk():
    X, y = MODEL.sample(40_000, 6)
    model = PretrainedRegressor(FactorPretrainer(2)).fit(X, y)
    new = MODEL.sample(5000, 7)[0]
    assert np.mean((model.predict(new) - MODEL.predict(new)) ** 2) < 0.005 * MODEL.bayes_risk


# ---- excess risk


@pytest.mark.parametrize("intercept", [True, False])
def test_with_known_factors_the_formula_is_exact(intercept):
    """Least squares on E[z | x] of 2000 draws; the excess of a fit is a quadratic form of its coefficients' error."""
    n, repeats = 15, 2000
    X, y = (part.reshape(repeats, n, -1) for part in MODEL.sample(n * repeats, 0))
    gram = MODEL.loadings.T @ MODEL.loadings
    features = X @ MODEL.loadings @ np.linalg.inv(gram + np.eye(2))
    ones = np.ones((repeats, n, int(intercept)))
    design = np.concatenate([features, ones], axis=2)
    coef = np.linalg.solve(design.swapaxes(1, 2) @ design, design.swapaxes(1, 2) @ y)[:, :, 0]
    error = coef - np.r_[MODEL.coef, np.zeros(int(intercept))]
    excess = np.einsum("ri,ij,rj->r", error[:, :2], gram @ np.linalg.inv(gram + np.eye(2)), error[:, :2])
    told = predict_excess_risk(MODEL, 0, n, fit_intercept=intercept)
    assert told.oracle == pytest.approx(np.mean(excess + (error[:, 2:] ** 2).sum(1)), rel=0.05)
    if not intercept:
        assert told.oracle == pytest.approx(MODEL.bayes_risk * 2 / (n - 3))


@pytest.mark.parametrize("use", [True, False])
def test_the_formula_tends_to_known_factors_at_the_classical_rate(use):
    """(d - r) sigma^4 / N times the sum of beta^2 / (lambda level), for N without end."""
    lam, beta = MODEL.principal()
    first = 10 * np.sum(beta**2 / (lam * (lam + 1)))
    m, n = 10**7, 10**4
    base = predict_excess_risk(MODEL, 10**12, n, use_labelled_inputs=use)
    far = predict_excess_risk(MODEL, m, n, use_labelled_inputs=use)
    assert base.pretrained == pytest.approx(base.oracle, rel=1e-6)
    assert (far.pretrained - base.pretrained) * (m + n * use) == pytest.approx(first, rel=0.01)


def test_the_first_order_is_the_variance_that_the_subspace_loses():
    """Var(E[y | x] | V'x) for the estimated V, by the true covariance; its exponent in m is one."""
    lam, beta = MODEL.principal()
    w = MODEL.loadings @ np.linalg.solve(MODEL.loadings.T @ MODEL.loadings + np.eye(2), MODEL.coef)
    covariance = MODEL.loadings @ MODEL.loadings.T + np.eye(12)
    sizes, lost = [300, 1200, 4800], []
    for m in sizes:
        each = []
        for i in range(30):
            V = FactorPretrainer(2).fit(MODEL.sample(m, i)[0]).loadings_
            along = V.T @ covariance @ w
            each.append(w @ covariance @ w - along @ np.linalg.solve(V.T @ covariance @ V, along))
        lost.append(np.mean(each))
    np.testing.assert_allclose(lost, [10 / m * np.sum(beta**2 / (lam * (lam + 1))) for m in sizes], rtol=0.25)
    assert learning_curve_exponent(sizes, lost).exponent == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("d", "n"), [(40, 15), (40, 70)])
def test_supervised_least_squares_on_both_sides_of_its_peak(d, n):
    model = FactorModel.random(d, 3, scale=0.5, random_state=1)
    new, found = model.sample(500, 0)[0], []
    for i in range(150):
        X, y = model.sample(n, i + 1)
        found.append(np.mean((predictors.LeastNormHead().fit(X, y).predict(new) - model.predict(new)) ** 2))
    assert predict_excess_risk(model, 0, n).supervised == pytest.approx(np.mean(found), rel=0.12)
    assert predict_excess_risk(model, 0, d + 1).supervised == math.inf


def test_what_cannot_be_found_costs_what_it_explains():
    """Factors below the threshold: the head learns from noise, and the signal is lost whole."""
    weak = FactorModel.random(200, 1, scale=0.01, random_state=0)
    lam, beta = weak.principal()
    told = predict_excess_risk(weak, 50, 10_000, use_labelled_inputs=False)
    assert told.pretrained == pytest.approx(float(np.sum(beta**2 * lam / (lam + 1))), rel=0.05)


# ---- heads, mixture


def test_the_table_counts_and_permuted_components_change_nothing():
    y = np.array(["a", "b", "a", "c"])
    shares = np.eye(3)[[0, 0, 1, 1]]
    head = predictors.TableHead().fit(shares, y)
    a = 0.05 / 3
    np.testing.assert_allclose(head.table_[0], np.array([1 + a, 1 + a, a]) / 2.05)
    np.testing.assert_allclose(head.table_[2], 1 / 3)  # no labelled row
    P = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    turned = predictors.TableHead().fit(shares[:, [2, 0, 1]], y)
    np.testing.assert_allclose(head.predict_proba(P), turned.predict_proba(P[:, [2, 0, 1]]))
    with pytest.raises(ValueError, match="probabilities"):
        predictors.TableHead().fit(shares - 0.5, y)


def test_the_table_of_overlapping_components_is_the_true_one():
    """Soft counts would give (0.64, 0.36), however many the rows."""
    rng = np.random.default_rng(0)
    truth = np.array([[0.9, 0.1], [0.1, 0.9]])
    shares = np.array([[0.8, 0.2], [0.2, 0.8]])[rng.integers(0, 2, 20_000)]
    y = (rng.random(20_000) > shares @ truth[:, 0]).astype(int)
    np.testing.assert_allclose(predictors.TableHead().fit(shares, y).table_, truth, atol=0.03)


def test_the_least_norm_is_that_of_the_pseudoinverse():
    rng = np.random.default_rng(0)
    for shape in ((4, 9), (30, 3)):
        X, y = rng.normal(size=shape), rng.normal(size=shape[0])
        head, peer = predictors.LeastNormHead().fit(X, y), LinearRegression().fit(X, y)
        np.testing.assert_allclose(head.predict(X), peer.predict(X), atol=1e-10)
        np.testing.assert_allclose(head.coef_, np.linalg.pinv(X - X.mean(0)) @ (y - y.mean()), atol=1e-10)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 1], [0] * 5, [0, 1, 1, 0, 2, 1]])
def test_baselines_take_a_handful_of_rows(labels):
    X = np.random.default_rng(0).normal(size=(len(labels), 4))
    for model in supervised_baselines(True).values():
        said = model.fit(X, labels).predict_proba(X)
        np.testing.assert_allclose(said.sum(1), 1)
        assert set(model.predict(X)) <= set(labels)
    for model in supervised_baselines(False).values():
        assert np.isfinite(model.fit(X, np.arange(len(labels))).predict(X)).all()


def test_groups_are_counted_and_few_labels_do():
    model = MixtureModel.random(6, 4, 2, separation=4.0, purity=1.0, random_state=0)
    X, y = model.sample(400, 1)
    assert MixturePretrainer(random_state=0).fit(X).n_components_ == 4
    rows = np.concatenate([np.flatnonzero(y == c)[:8] for c in (0, 1)])
    predictor = PretrainedClassifier(MixturePretrainer(4, random_state=0)).fit(X[rows], y[rows], X)
    new, truth = model.sample(500, 2)
    assert predictor.score(new, truth) > 0.98
    noise = np.random.default_rng(0).normal(size=(50, 3))
    single = PretrainedClassifier(MixturePretrainer(random_state=0)).fit(noise, y[:50])
    assert single.n_components_ == 1
    assert np.ptp(single.predict_proba(noise), axis=0).max() == 0


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_joint_em_never_loses_likelihood_and_labels_find_components(covariance):
    """Two groups that x alone cannot tell apart from one: labels do."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    X = rng.normal(size=(300, 2)) + 2.0 * y[:, None]
    joint = JointMixtureClassifier(2, covariance, tol=1e-8, max_iter=1000, random_state=0).fit(
        X[:60], y[:60], X[60:]
    )
    assert joint.converged_
    assert np.diff(joint.log_likelihood_).min() > -1e-8
    assert joint.score(X[60:], y[60:]) > 0.85


def test_any_density_or_transformer_is_a_pretrainer():
    X, y = load_digits(return_X_y=True)
    pipe = make_pipeline(PCA(10), GaussianMixture(12, random_state=0)).fit(X)
    shares, table = posterior_of(pipe, X)
    assert table
    np.testing.assert_array_equal(shares, pipe.predict_proba(X))
    codes, table = posterior_of(PCA(3).fit(X), X)
    assert not table
    assert codes.shape == (len(X), 3)
    with pytest.raises(TypeError, match="posterior, predict_proba or transform"):
        posterior_of(LinearRegression(), X)
    model = PretrainedClassifier(make_pipeline(PCA(10), GaussianMixture(12, random_state=0)))
    assert model.fit(X[:200], y[:200], X[200:1000]).score(X[1000:], y[1000:]) > 0.6
    assert PretrainedRegressor(PCA(5), RidgeCV()).fit(X[:50], y[:50]).predict(X[:2]).shape == (2,)


def test_the_search_for_groups_stops_after_three_that_do_not_help():
    X = MixtureModel.random(4, 2, 2, separation=4.0, random_state=0).sample(300, 1)[0]
    model = MixturePretrainer(random_state=0).fit(X)
    assert model.n_components_ == 2
    assert list(model.bic_) == [1, 2, 3, 4, 5]
    assert list(MixturePretrainer(max_components=3, random_state=0).fit(X).bic_) == [1, 2, 3]


def test_a_unit_that_reg_covar_blurs_is_told():
    X = MixtureModel.random(3, 2, 2, separation=4.0, random_state=0).sample(100, 1)[0]
    with pytest.warns(UserWarning, match="larger than the variance of column 0"):
        MixturePretrainer(random_state=0).fit(X * 1e-6)
    with warnings.catch_warnings(action="error"):
        MixturePretrainer(random_state=0).fit(np.c_[X, np.full(100, 0.1)])  # constant: nothing to blur


@pytest.mark.parametrize(
    "last", [MixturePretrainer(3, random_state=0), FactorPretrainer(2), ContrastivePretrainer(2, steps=3)]
)
def test_pretrainers_end_a_pipeline(last):
    X, y = MODEL.sample(150, 1)
    pipe = make_pipeline(PCA(4), last)
    shares, table = posterior_of(pipe.fit(X), X)
    assert table == isinstance(last, MixturePretrainer)
    np.testing.assert_array_equal(shares, pipe[-1].posterior(pipe[0].transform(X)))
    assert PretrainedClassifier(pipe).fit(X[:40], y[:40] > 0, X[40:]).predict_proba(X).shape == (150, 2)


def test_heads_and_baselines_must_be_fitted():
    for head in (predictors.TableHead(), predictors.LeastNormHead(), *supervised_baselines(True).values()):
        with pytest.raises(NotFittedError):
            head.predict(np.ones((2, 2)) / 2)
    with pytest.raises(ValueError, match="at least one"):
        predictors.TunedLogistic(()).fit(np.ones((4, 1)), [0, 1, 0, 1])


@pytest.mark.trains
def test_pairs_tell_the_inner_products_of_the_encoder():
    model = PairModel.random(5, 2, random_state=0)
    X, partners, similar = model.pairs(4000, 1)
    net = ContrastivePretrainer(2, hidden=(), steps=80, batch_size=500, lr=0.1, random_state=0)
    net.fit(X, partners=partners, similar=similar)
    new = model.sample(100, 2)[0]
    truth, found = new @ model.weights.T, net.posterior(new)
    error = np.linalg.norm(found @ found.T - truth @ truth.T) / np.linalg.norm(truth @ truth.T)
    assert error < 0.25
    assert net.loss_ < math.log(2)


# ---- measured


def test_noise_that_matters_reverses_the_gain():
    """y depends on directions that no factor has: the assumption fails, and pretraining loses."""
    rng = np.random.default_rng(0)
    X, y = MODEL.sample(700, 8)
    across = np.linalg.svd(MODEL.loadings.T)[2][-1]
    against = X @ across + 0.1 * rng.normal(size=700)
    options = {"m_grid": [0, 300], "n_grid": [40, 80], "n_repeats": 4, "random_state": 0}
    gains = {}
    for name, target in (("factors", y), ("noise", against)):
        data = X[:450], target[:450], X[450:], target[450:]
        surface = learning_surface(
            PretrainedRegressor(FactorPretrainer(2)), LinearRegression(), *data, **options
        )
        gains[name] = surface.gain
    assert gains["factors"].min() > 1
    assert gains["noise"].max() < 0.2
    assert surface.break_even()["verdict"].tolist() == ["behind", "behind"]


def test_the_break_even_is_where_the_mean_differences_meet():
    base = np.array([[0.5, 0.52], [0.3, 0.32], [0.1, 0.12]])
    risk = np.stack([base - np.array([[0.2], [0.1], [-0.1]]), base - 0.05, base + 0.05, base[:, ::-1]])
    surface = system.LearningSurface((0, 1, 2, 3), (10, 100, 1000), risk, base, "error")
    told = surface.break_even()
    assert told["n"][0] == pytest.approx(10**2.5)
    assert told["verdict"].tolist() == ["crosses", "ahead", "behind", "the data cannot tell"]
    assert "pays up to about n = 316" in str(surface)
    assert len(surface.plot().get_lines()) >= 5


def test_verdicts_survive_equal_risks():
    """Both methods of one risk: at any n a difference is seen in one case of twenty, whatever the repeats."""
    rng = np.random.default_rng(0)
    for repeats in (3, 10):
        risks = rng.normal(size=(80, 2, 4, repeats))
        seen = [
            system.LearningSurface((0,), (10, 20, 50, 100), risk[:1], risk[1], "error").break_even()[
                "verdict"
            ][0]
            for risk in risks
        ]
        assert np.mean(np.array(seen) != "the data cannot tell") < 0.08
    once = system.LearningSurface((0,), (10,), np.ones((1, 1, 1)), np.full((1, 1), 2.0), "error")
    assert once.break_even()["verdict"][0] == "the data cannot tell"


def test_informative_models_agree_on_both_halves():
    X = MODEL.sample(1500, 9)[0]
    assert informativeness(FactorPretrainer(2), X, random_state=0) < 0.05
    assert informativeness(FactorPretrainer("bic"), np.random.default_rng(0).normal(size=(500, 8))) == 1.0
    noise = np.random.default_rng(0).normal(size=(200, 12))
    assert informativeness(FactorPretrainer(2), noise, random_state=0) > 0.3


# ---- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"X": np.ones((1, 3)), "y": [1.0]}, "1 sample"),
        ({"X_unlabelled": np.ones((5, 2))}, r"\(5, 2\)"),
        ({"y": None}, "y to be passed"),
        ({"y": [1.0, np.nan, 2.0, 3.0]}, "missing"),
    ],
)
def test_bad_tables_are_told(options, said):
    given = {"X": MODEL.sample(4, 0)[0][:, :3], "y": [1.0, 2.0, 3.0, 4.0], **options}
    with pytest.raises(ValueError, match=said):
        PretrainedRegressor().fit(**given)


def test_columns_of_two_tables_are_the_same_in_order():
    X, y = MODEL.sample(20, 0)
    names = list("abcdefghijkl")
    table, turned = pd.DataFrame(X, columns=names), pd.DataFrame(X, columns=names)[names[::-1]]
    factors = FactorPretrainer(2)
    with pytest.raises(ValueError, match="X_unlabelled must have the columns of X"):
        PretrainedRegressor(factors).fit(table, y, turned)
    with pytest.raises(ValueError, match="X_unlabelled must have the columns of X"):
        JointMixtureClassifier().fit(table, y > 0, turned)
    with pytest.raises(ValueError, match="partners must have the columns of X"):
        ContrastivePretrainer(2, steps=2).fit(table, partners=turned, similar=y > 0)
    with pytest.raises(ValueError, match="X_test must have the columns of X_pool"):
        learning_surface(PretrainedRegressor(factors), LinearRegression(), table, y, turned, y, [0], [9])
    PretrainedRegressor(factors).fit(table, y, X)
    with pytest.raises(ValueError, match="view must be at least 0"):
        ContrastivePretrainer(2, view=-1.0).fit(X)


def test_what_does_not_fit_together_is_told():
    X, y = MODEL.sample(20, 0)
    with pytest.raises(ValueError, match="n_components=13"):
        FactorPretrainer(13).fit(X)
    with pytest.raises(ValueError, match="leaves no row"):
        PretrainedRegressor(use_labelled_inputs=False).fit(X, y, X[:0])
    PretrainedRegressor(FactorPretrainer(2)).fit(X, y, X[:0])
    with pytest.raises(ValueError, match="has not: 7"):
        learning_surface(PretrainedClassifier(), LinearRegression(), X, y > 0, X, np.full(20, 7), [0], [5])
    with pytest.raises(ValueError, match="learn from nothing"):
        PretrainedRegressor(FactorPretrainer(), RidgeCV()).fit(
            np.random.default_rng(0).normal(size=(90, 3)), np.ones(90)
        )
    with pytest.raises(ValueError, match="leave no two rows"):
        predict_excess_risk(MODEL, 0, 10, use_labelled_inputs=False)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_penalty_is_chosen_where_probabilities_round_to_zero():
    """An outlier on the wrong side has a finite loss for each C; the sum of losses by logs of odds decides."""
    rng = np.random.default_rng(0)
    rows, classes = rng.normal(size=(18, 2)), np.arange(18) % 2
    rows[:, 0] += 3 * classes
    rows[0, 0] = 1e5
    chosen = predictors.TunedLogistic().fit(rows, classes)
    losses = []
    for C in chosen.Cs:
        loss = 0.0
        for fold in range(3):
            held = np.arange(18) // 2 % 3 == fold
            model = predictors.TunedLogistic((C,)).fit(rows[~held], classes[~held])
            odds = model._model.decision_function(rows[held])
            loss += np.logaddexp(0, np.where(classes[held] == 1, -odds, odds)).sum()
        losses.append(loss)
    assert np.isfinite(losses).all()
    assert chosen.Cs[int(np.argmin(losses))] == chosen.C_


def test_encoders_and_views_that_return_other_things_are_named():
    X = MODEL.sample(20, 0)[0]
    with pytest.raises(TypeError, match="what encoder returns"):
        ContrastivePretrainer(2, encoder=lambda n, r: None, steps=2).fit(X)
    for view in (lambda x: None, lambda x: x[:, :2]):
        with pytest.raises(ValueError, match="view must return"):
            ContrastivePretrainer(2, view=view, steps=2).fit(X)
    with pytest.warns(ConvergenceWarning, match="finite loss"):
        ContrastivePretrainer(2, view=lambda x: x * math.nan, steps=2, random_state=0).fit(X)
