"""The estimator against direct sums, scikit-learn, autograd and its own identities."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.neighbors import KernelDensity

from lodim.geometry import HighDimKDE, density_regime, kde_theory
from lodim.geometry.high_dimensional_kde import bandwidth
from lodim.geometry.high_dimensional_kde.bandwidth import maximise
from lodim.geometry.high_dimensional_kde.kernels import KERNELS, log_norm
from lodim.neighbors import LogSumExp, stream_pairs


def direct(Q, X, h, weights=None):
    w = np.ones(len(X)) if weights is None else weights
    logs = -cdist(Q, X, "sqeuclidean") / (2 * h**2)
    return logsumexp(logs, b=w, axis=1) - np.log(w.sum()) - Q.shape[1] / 2 * math.log(2 * math.pi * h**2)


def cloud(n=300, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.linspace(0.5, 2, d) + 30, rng.normal(size=(40, d)) + 30


@pytest.mark.parametrize("block", [41, 64, 2048])
@pytest.mark.parametrize("weighted", [False, True])
def test_density_is_the_direct_sum(block, weighted):
    X, Q = cloud()
    w = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    kde = HighDimKDE(0.8, block_size=block).fit(X, sample_weight=w)
    np.testing.assert_allclose(kde.score_samples(Q), direct(Q, X, 0.8, w), rtol=1e-11)
    assert kde.score(Q) == pytest.approx(direct(Q, X, 0.8, w).sum())


def test_one_point():
    kde = HighDimKDE(0.5).fit([[1.0, 2.0]])
    assert kde.score_samples([[1.0, 2.0]])[0] == pytest.approx(-math.log(2 * math.pi * 0.25))
    assert math.isnan(kde.h_g_)
    with pytest.raises(ValueError, match="at least 2 distinct"):
        HighDimKDE().fit([[1.0, 2.0], [1.0, 2.0]])


@pytest.mark.parametrize("kernel", KERNELS)
def test_agrees_with_scikit_learn_in_one_dimension(kernel):
    rng = np.random.default_rng(0)
    X, Q = rng.normal(size=(500, 1)), rng.normal(size=(60, 1))
    theirs = KernelDensity(kernel=kernel, bandwidth=0.4, rtol=0, leaf_size=1000).fit(X).score_samples(Q)
    np.testing.assert_allclose(HighDimKDE(0.4, kernel).fit(X).score_samples(Q), theirs, atol=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [1, 3, 20])
def test_kernels_integrate_to_one(kernel, d):
    profile = {
        "gaussian": lambda r: math.exp(-r * r / 2), "exponential": lambda r: math.exp(-r),
        "epanechnikov": lambda r: 1 - r * r, "tophat": lambda r: 1.0,
    }[kernel]  # fmt: skip
    surface = 2 * math.pi ** (d / 2) / math.gamma(d / 2)
    limit = 1 if kernel in ("epanechnikov", "tophat") else 120
    integral, _ = quad(lambda r: surface * r ** (d - 1) * profile(r), 0, limit, limit=400, epsabs=0)
    assert math.log(integral) == pytest.approx(log_norm(kernel, d), abs=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("whiten", [None, "full"])
def test_samples_have_the_kernels_spread(kernel, whiten):
    X, _ = cloud(400, 5)
    kde = HighDimKDE("nn", kernel, whiten).fit(X)
    drawn = kde.sample(40_000, random_state=0)
    # equal radius at equal rule: every kernel adds h_nn^2 of variance to each (whitened) column
    h = HighDimKDE("nn", whiten=whiten).fit(X).bandwidth_
    added = h**2 * (X.var(0) if whiten else 1)
    np.testing.assert_allclose(drawn.var(0), X.var(0) + added, rtol=0.05)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.05)
    np.testing.assert_array_equal(kde.sample(3), kde.sample(3))


def test_shift_and_scale():
    X, Q = cloud()
    plain, moved = HighDimKDE(random_state=0).fit(X), HighDimKDE(random_state=0).fit(5 * X + 100)
    assert moved.bandwidth_ == pytest.approx(5 * plain.bandwidth_, rel=1e-8)
    assert moved.h_g_ == pytest.approx(5 * plain.h_g_, rel=1e-8)
    np.testing.assert_allclose(
        moved.score_samples(5 * Q + 100), plain.score_samples(Q) - 6 * math.log(5), rtol=1e-8
    )


@pytest.mark.parametrize(("far", "h"), [(1e4, 1.0), (0.0, 1e-4)])
def test_nothing_underflows(far, h):
    X, Q = cloud()
    kde = HighDimKDE(h).fit(X)
    found = kde.score_samples(Q + far)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, direct(Q + far, X, h), rtol=1e-9)


def test_leaving_one_out_leaves_exactly_that_one_out():
    X, _ = cloud(120)
    kde = HighDimKDE("loo", n_queries=120, random_state=0).fit(X)
    alone = [direct(X[i : i + 1], np.delete(X, i, 0), kde.curves_.h[4])[0] for i in range(len(X))]
    assert kde.curves_.loo[4] == pytest.approx(np.mean(alone), rel=1e-10)


def test_the_leave_one_out_bandwidth_is_a_stationary_point():
    """There ``h^2`` is the mean squared distance under the shares over d, and so at least the nearest neighbours'."""
    X, _ = cloud(400)
    kde = HighDimKDE(n_queries=400, random_state=0).fit(X)
    squares = cdist(X, X, "sqeuclidean")
    np.fill_diagonal(squares, np.inf)
    logs = -squares / (2 * kde.bandwidth_**2)
    shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    np.fill_diagonal(squares, 0)
    assert kde.bandwidth_**2 == pytest.approx((shares * squares).sum(1).mean() / 6, rel=2e-3)
    assert kde.bandwidth_ > kde.curves_.h_nn
    np.fill_diagonal(squares, np.inf)
    assert kde.curves_.h_nn == pytest.approx(math.sqrt(squares.min(1).mean() / 6), rel=1e-10)


def test_rules():
    X, _ = cloud(500)
    n, d, sigma = 500, 6, math.sqrt(X.var(0).mean())
    found = {
        rule: HighDimKDE(rule, random_state=0).fit(X).bandwidth_ for rule in ("loo", "cv", "gaussian", "nn")
    }
    assert found["cv"] == pytest.approx(found["loo"], rel=0.1)
    spectrum = np.linalg.eigvalsh(np.cov(X.T, bias=True))
    assert found["gaussian"] == pytest.approx(kde_theory(500, spectrum=spectrum).h_opt)
    assert HighDimKDE("scott").fit(X).bandwidth_ == pytest.approx(sigma * n ** (-1 / (d + 4)))
    silverman = sigma * (n * (d + 2) / 4) ** (-1 / (d + 4))
    assert HighDimKDE("silverman").fit(X).bandwidth_ == pytest.approx(silverman)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rule", ["loo", "cv"])
def test_every_kernel_has_a_likelihood_bandwidth(kernel, rule):
    X, Q = cloud(200, 2)
    kde = HighDimKDE(rule, kernel, random_state=0).fit(X)
    if rule == "loo":
        h = kde.bandwidth_ * np.array([0.8, 1.0, 1.25])
        from lodim.geometry.high_dimensional_kde.bandwidth import leave_one_out

        assert leave_one_out(kde._points, h).argmax() == 1
    assert kde.score_samples(Q).shape == (40,)


def test_repeated_rows_are_one_point_of_more_weight():
    X, Q = cloud(150)
    twice = HighDimKDE(n_queries=500, random_state=0).fit(np.vstack([X, X[:50], X[:50]]))
    weighted = HighDimKDE(n_queries=500, random_state=0).fit(
        X, sample_weight=np.r_[3 * np.ones(50), np.ones(100)]
    )
    assert (twice.n_points_, twice.n_duplicates_) == (150, 100)
    assert twice.bandwidth_ == pytest.approx(weighted.bandwidth_)
    np.testing.assert_allclose(twice.score_samples(Q), weighted.score_samples(Q), rtol=1e-12)
    np.testing.assert_allclose(
        twice.score_samples(Q), direct(Q, np.vstack([X, X[:50], X[:50]]), twice.bandwidth_), rtol=1e-11
    )


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_diagnosis_of_the_shares(kernel):
    X, Q = cloud()
    w = np.random.default_rng(2).uniform(0.5, 2, len(X))
    kde = HighDimKDE(0.7, kernel, block_size=50).fit(X, sample_weight=w)
    found = kde.diagnose(Q)
    energy = cdist(Q, X) / 0.7
    energy = energy**2 / 2 if kernel == "gaussian" else energy
    logs = np.log(w) - energy
    p = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(found.n_eff, 1 / (p**2).sum(1), rtol=1e-9)
    np.testing.assert_allclose(found.entropy, -(p * np.log(p)).sum(1), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.log_density, kde.score_samples(Q), rtol=1e-10)
    assert found.h_clt == pytest.approx(found.h_g * (math.sqrt(2) if kernel == "gaussian" else 2))
    assert found.to_frame().shape == (40, 5)
    assert set(found.regimes) <= {"condensed", "stable", "clt"}
    assert found.regime in str(found)
    assert "n_eff" in found.plot().get_xlabel()


def test_shares_in_the_condensed_regime():
    """Random energies: the mean sum of squared shares is 1 - (h / h_G)^2; near h_G, with the measured threshold."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 80))
    theory = kde_theory(5000, 80)
    for factor in (0.5, 0.8):
        kde = HighDimKDE(factor * theory.h_g, n_queries=100, random_state=0).fit(X)
        found = kde.diagnose(rng.normal(size=(300, 80)))
        if factor == 0.5:
            assert found.share_squared == pytest.approx(theory.share_squared(kde.bandwidth_), abs=0.1)
        assert found.share_squared == pytest.approx(1 - found.tail_index, abs=0.06)
    assert theory.h_g < kde.h_g_ < 1.2 * theory.h_g
    assert found.regime == "condensed"


@pytest.mark.parametrize("options", [{}, {"whiten": "full"}, {"whiten": "pca(3)"}, {"adaptive": 5}])
def test_gradient_is_that_of_the_log_density(options):
    X, Q = cloud(200)
    kde = HighDimKDE(0.9, **options).fit(X)
    steps = 1e-5 * np.eye(6)
    numeric = [(kde.score_samples(Q + s) - kde.score_samples(Q - s)) / 2e-5 for s in steps]
    np.testing.assert_allclose(kde.grad_log_density(Q).T, numeric, rtol=1e-5, atol=1e-5)


def test_gradient_against_autograd():
    X, Q = cloud(200)
    q = torch.tensor(Q, requires_grad=True)
    torch.logsumexp(-((q[:, None] - torch.tensor(X)) ** 2).sum(2) / (2 * 0.8**2), 1).sum().backward()
    np.testing.assert_allclose(HighDimKDE(0.8).fit(X).grad_log_density(Q), q.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("whiten", ["diag", "full", "pca(2)"])
def test_whitened_density_is_one_in_the_given_coordinates(whiten):
    """Importance sampling: its integral over the plane (or its projection) is one."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ np.array([[3.0, 1.0], [0.0, 0.2]])
    kde = HighDimKDE("loo", whiten=whiten).fit(X)
    grid = [np.linspace(c.min() - 4, c.max() + 4, 220) for c in X.T]
    mesh = np.stack(np.meshgrid(*grid), -1).reshape(-1, 2)
    cell = np.prod([g[1] - g[0] for g in grid])
    assert np.exp(kde.score_samples(mesh)).sum() * cell == pytest.approx(1, abs=2e-3)


def test_whitening_removes_linear_maps():
    X, Q = cloud()
    A = np.random.default_rng(5).normal(size=(6, 6))
    plain, mapped = (HighDimKDE(whiten="full", random_state=0).fit(Z) for Z in (X, X @ A))
    gap = plain.score_samples(Q) - mapped.score_samples(Q @ A)
    np.testing.assert_allclose(gap, np.linalg.slogdet(A)[1], rtol=1e-6)


def test_adaptive_bandwidths():
    X, Q = cloud(200)
    kde = HighDimKDE(0.8, adaptive=5).fit(X)
    radius = np.sort(cdist(X, X), 1)[:, 5]
    h = 0.8 * radius / np.exp(np.log(radius).mean())
    logs = -cdist(Q, X, "sqeuclidean") / (2 * h**2) - 6 * np.log(h)
    expected = logsumexp(logs, axis=1) - math.log(200) - 3 * math.log(2 * math.pi)
    np.testing.assert_allclose(kde.score_samples(Q), expected, rtol=1e-10)
    assert np.isfinite(HighDimKDE("loo", adaptive=5).fit(X).bandwidth_)
    with pytest.raises(ValueError, match="adaptive=None"):
        kde.diagnose(Q)


def test_tensors_in_tensors_out():
    X, Q = cloud()
    kde = HighDimKDE(0.8).fit(torch.tensor(X))
    found = kde.score_samples(torch.tensor(Q))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found, HighDimKDE(0.8).fit(X).score_samples(Q))
    assert isinstance(kde.grad_log_density(torch.tensor(Q)), torch.Tensor)
    assert clone(kde).get_params()["bandwidth"] == 0.8


def test_divergence_to_another():
    """Against the exact value for single points: |a - b|^2 / (2 h^2)."""
    one, other = HighDimKDE(1.0).fit([[0.0, 0.0]]), HighDimKDE(1.0).fit([[1.0, 2.0]])
    found = one.kl_to(other, n=20_000, random_state=0)
    assert abs(found.value - 2.5) < 4 * found.se
    assert one.kl_to(one).value == 0
    assert one.kl_to(other.score_samples, n=50, random_state=1).n == 50


def test_a_divergence_needs_one_log_density_a_row_of_the_same_unit():
    X = np.random.default_rng(0).normal(size=(60, 3))
    kde = HighDimKDE("nn").fit(X)
    for other in (
        lambda rows: 0.0,
        lambda rows: np.zeros((len(rows), 1)),
        lambda rows: np.full(len(rows), np.nan),
    ):
        with pytest.raises(ValueError, match=r"must be \(20,\) numbers"):
            kde.kl_to(other, n=20)
    plane = HighDimKDE("nn", whiten="pca(2)").fit(X)
    other_plane = HighDimKDE("nn", whiten="pca(2)").fit(X[:, ::-1] * [1, 5, 9])
    for one, other in ((kde, plane), (plane, kde), (plane, other_plane)):
        with pytest.raises(ValueError, match="same plane"):
            one.kl_to(other)
    assert plane.kl_to(HighDimKDE(1.0, whiten="pca(2)").fit(X)).value > 0
    assert HighDimKDE("nn", whiten="full").fit(X).kl_to(kde, random_state=0).n == 2000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kde.kl_to(HighDimKDE(0.1, kernel="tophat").fit(X)).value == math.inf


def test_regime_of_a_data_set():
    rng = np.random.default_rng(0)
    plane, many = density_regime(rng.normal(size=(3000, 2))), density_regime(rng.normal(size=(3000, 60)))
    assert (plane.regime, plane.meaningful) == ("clt", True)
    assert (many.regime, many.meaningful) == ("condensed", False)
    assert plane.n_eff > 50 > 5 > many.n_eff
    assert "nearest" in str(many)
    assert many.h_clt_gaussian == pytest.approx(math.sqrt(2) * many.h_g_gaussian)


@pytest.mark.parametrize("d", [10, 20, 40, 80])
def test_the_interval_of_the_tail_index_holds_the_theorys(d):
    """At the same bandwidth, with the threshold of normal data of this covariance, d to infinity."""
    X = np.random.default_rng(1).normal(size=(500, d))
    found = density_regime(X)
    low, high = found.tail_interval
    assert low <= (found.bandwidth / found.h_g) ** 2 <= high
    assert low <= (found.bandwidth / found.h_g_gaussian) ** 2 <= high
    border = any(low < b <= high for b in (1, 2))
    assert (found.regime == "undetermined") == border


LOW_DIMENSIONAL = {
    "normal line": lambda r: r.normal(size=(500, 1)),
    "lognormal plane": lambda r: np.exp(1.5 * r.normal(size=(1000, 2))),
    "heavy-tailed plane": lambda r: r.standard_t(2, size=(1000, 2)),
    "Cauchy line": lambda r: r.standard_t(1, size=(1000, 1)),
}


@pytest.mark.parametrize("name", LOW_DIMENSIONAL)
def test_few_dimensions_are_far_from_condensation(name):
    """Far points are no reason to begin the search above the threshold, which the bulk of the points decides."""
    for seed in range(2):
        found = density_regime(LOW_DIMENSIONAL[name](np.random.default_rng(seed)), random_state=seed)
        assert found.regime == "clt"
        assert 0 < found.h_g < found.bandwidth / math.sqrt(2)
        assert not found.h_g_is_bound


def test_measured_threshold_is_where_the_shares_say():
    """Mean ``sum p^2`` at the threshold's side of (0.3, 0.7), with direct sums."""
    X = np.random.default_rng(0).standard_t(2, size=(400, 2))
    kde = HighDimKDE(n_queries=400, random_state=0).fit(X)
    squares = cdist(X, X, "sqeuclidean")
    np.fill_diagonal(squares, np.inf)

    def share(h):
        logs = -squares / (2 * h**2)
        return np.exp(2 * (logs - logsumexp(logs, axis=1, keepdims=True))).sum(1).mean()

    h = np.geomspace(kde.h_g_ / 15, kde.h_g_ * 3, 100)
    shares = np.array([share(one) for one in h])
    assert shares[0] > 0.7
    assert shares[-1] < 0.3
    inside = (shares > 0.3) & (shares < 0.7)
    expected = math.sqrt(np.median(h[inside] ** 2 / (1 - shares[inside])))
    assert kde.h_g_ == pytest.approx(expected, rel=0.02)


def test_in_many_dimensions_the_grid_begins_at_a_quarter_of_the_typical_distance():
    X = np.random.default_rng(0).normal(size=(2000, 40))
    curves = HighDimKDE("nn", random_state=0).fit(X).curves_
    assert curves.h[0] == pytest.approx(curves.h_nn / 4)


def test_points_on_a_lattice_have_a_bound_for_a_threshold():
    """Eight neighbours are equally near: at no bandwidth do fewer decide, so that h_G is below all of them."""
    X = np.stack(np.meshgrid(*[np.arange(5.0)] * 4), -1).reshape(-1, 4)
    found = density_regime(X)
    assert (found.regime, found.h_g_is_bound) == ("clt", True)
    assert found.h_g <= 0.25
    assert "h_G" not in str(found)
    assert "at most" in str(found)
    kde = HighDimKDE("nn").fit(X)
    assert kde.bandwidth_ == pytest.approx(0.5)
    below = HighDimKDE(found.h_g / 3).fit(X).diagnose(X + 0.3)
    assert (below.regime, below.h_g_is_bound) == ("undetermined", True)
    assert "at most" in str(below)


def test_two_points_have_no_regime():
    found = density_regime([[0.0, 1.0], [1.0, 0.0]])
    assert found.regime == "undetermined"
    assert math.isnan(found.h_g)
    assert "nan" not in str(found)


def test_a_regime_reads_well():
    rng = np.random.default_rng(0)
    clouds = (rng.normal(size=(500, 1)), rng.normal(size=(1000, 8)), rng.normal(size=(500, 40)), np.eye(2))
    found = [density_regime(X) for X in clouds]
    assert [f.regime for f in found] == ["clt", "stable", "condensed", "undetermined"]
    for one in found:
        assert one.meaning in str(one)
        assert "it is many" not in str(one)
        assert "nan" not in str(one)
    assert "1 dimension:" in str(found[0])
    assert "would need" not in str(found[0])
    assert "would need" in str(found[2])


@pytest.mark.parametrize("X", [np.ones((50, 3)), [[1.0, 2.0]]])
def test_a_regime_needs_two_distinct_rows(X):
    with pytest.raises(ValueError, match="at least 2 distinct rows") as error:
        density_regime(X)
    assert "give a number" not in str(error.value)


def test_many_rows_take_the_nearest_neighbour_rule(monkeypatch):
    X, _ = cloud()
    assert bandwidth.MOST_FOR_LOO == 200_000
    monkeypatch.setattr(bandwidth, "MOST_FOR_LOO", len(X))
    few = HighDimKDE(random_state=0).fit(X)
    assert (few.rule_, few.bandwidth_) == ("loo", HighDimKDE("loo", random_state=0).fit(X).bandwidth_)
    monkeypatch.setattr(bandwidth, "MOST_FOR_LOO", len(X) - 1)
    many = HighDimKDE(random_state=0).fit(X)
    assert (many.rule_, many.bandwidth_) == ("nn", many.curves_.h_nn)
    assert HighDimKDE("loo", random_state=0).fit(X).rule_ == "loo"
    assert HighDimKDE(0.5).fit(X).rule_ is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bandwidth": "lo"}, "Did you mean 'loo'"),
        ({"bandwidth": 0.0}, "positive"),
        ({"kernel": "gauss"}, "gaussian"),
        ({"whiten": "pca"}, r"pca\(k\)"),
        ({"whiten": np.ones(2)}, r"pca\(k\)"),
        ({"whiten": "pca(9)"}, "9 components"),
        ({"kernel": "tophat", "adaptive": 3}, "adaptive"),
    ],
)
def test_refusals(options, match):
    X, _ = cloud()
    with pytest.raises(ValueError, match=match):
        HighDimKDE(**options).fit(X)


def test_refusals_that_depend_on_the_data():
    X, Q = cloud()
    with pytest.raises(ValueError, match="constant"):
        HighDimKDE(1.0, whiten="diag").fit(np.c_[X, np.ones(len(X))])
    with pytest.raises(ValueError, match=r"span 6 dimensions only; use whiten='pca\(6\)'"):
        HighDimKDE(1.0, whiten="full").fit(np.c_[X, X[:, 0]])
    with pytest.raises(ValueError, match="sample_weight"):
        HighDimKDE(1.0).fit(X, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="no tail"):
        HighDimKDE(1.0, "tophat").fit(X).diagnose(Q)
    with pytest.raises(ValueError, match="gaussian kernel"):
        HighDimKDE(1.0, "tophat").fit(X).grad_log_density(Q)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_a_grid_of_bandwidths_in_one_pass(dtype, kernel):
    """Squarings between neighbouring rates give what an exponential for each gives."""
    X, Q = cloud()
    h = 0.2 * 2 ** (np.arange(24) / 4)
    w = np.stack([np.ones(len(X)), np.linspace(0, 2, len(X))], 1)
    (found,) = stream_pairs(Q, X, reducers=[LogSumExp(h, kernel=kernel, weights=w)], block_r=37, dtype=dtype)
    r = cdist(Q, X)[:, None] / h[:, None]
    energy = r**2 / 2 if kernel == "gaussian" else r
    expected = np.stack([logsumexp(-energy, b=w[:, c], axis=2) for c in (0, 1)], 2)
    np.testing.assert_allclose(found, expected, atol=1e-10 if dtype == torch.float64 else 0.02, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_processor():
    X, Q = cloud(2000, 20)
    here, there = (HighDimKDE(device=device, random_state=0).fit(X) for device in ("cpu", "cuda"))
    assert there.bandwidth_ == pytest.approx(here.bandwidth_, rel=1e-8)
    np.testing.assert_allclose(there.diagnose(Q).n_eff, here.diagnose(Q).n_eff, rtol=1e-8)
    np.testing.assert_allclose(there.grad_log_density(Q), here.grad_log_density(Q), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("d", "jitter"), [(2, 1e-13), (5, 0.0), (5, 1e-10), (5, 1e-8), (20, 1e-13)])
def test_rows_that_repeat_up_to_rounding_do_not_decide_the_bandwidth(d, jitter):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(250, d))
    again = X[:50] + jitter * rng.normal(size=(50, d)) if jitter else X[:50] * 3.3 / 3.3
    plain, kde = (HighDimKDE(n_queries=300, random_state=0).fit(Y) for Y in (X, np.r_[X, again]))
    assert np.isfinite(kde.curves_.loo).all()
    assert 0.5 * plain.bandwidth_ < kde.bandwidth_ <= 1.01 * plain.bandwidth_
    squares = cdist(kde._points.rows, kde._points.rows, "sqeuclidean")
    np.fill_diagonal(squares, np.inf)

    def likelihood(h):
        return logsumexp(-squares / (2 * h**2), axis=1).mean() - d * np.log(h)

    assert likelihood(kde.bandwidth_) > max(map(likelihood, np.geomspace(1e-8, 10, 28))) - 1e-4


def test_a_value_that_is_no_number_is_no_maximum():
    grid = np.geomspace(1e-3, 10, 17)

    def curve(h):
        return np.where(h < 0.01, np.inf, np.where(h < 0.1, np.nan, -(np.log(h) ** 2)))

    assert maximise(curve, grid, curve(grid)) == pytest.approx(1)


@pytest.mark.parametrize("kernel", ["tophat", "epanechnikov"])
@pytest.mark.parametrize(
    ("d", "side", "dtype"),
    [(1, 20, np.uint8), (2, 9, np.float32), (3, 5, np.float64), (3, 5, np.float32)],
)
def test_points_on_the_border_of_a_bounded_kernel_are_outside(kernel, d, side, dtype):
    """On a grid many points are at distance h exactly, where rounding of products would decide."""
    grid = np.stack(np.meshgrid(*[np.arange(side)] * d), -1).reshape(-1, d).astype(dtype)
    for h in (1.0, np.sqrt(2), np.sqrt(3), 2.0, np.sqrt(5), 2.5):
        plain = grid.astype(float)
        expected = KernelDensity(bandwidth=h, kernel=kernel).fit(plain).score_samples(plain)
        found = (
            HighDimKDE(float(h), kernel=kernel, n_queries=20, random_state=0).fit(grid).score_samples(grid)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("kernel", ["tophat", "epanechnikov"])
def test_a_query_whose_only_point_is_on_the_border_has_density_zero(kernel):
    model = HighDimKDE(1.0, kernel=kernel, random_state=0).fit([[1e3 + 0.0, 0.0], [1e3 + 5.0, 0.0]])
    assert model.score_samples([[1e3 + 6.0, 0.0]]).tolist() == [-np.inf]
    assert np.isfinite(model.score_samples([[1e3 + 5.5, 0.0]])).all()
