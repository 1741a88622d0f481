"""The closed form: a stationary point, nothing near it is lower, and an independent route leads to it."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import ortho_group

from lodim.representation import DeepLinearUFM, nc1, nc2, nc3, predict_geometry, ufm_minimizer

CASES = {
    "balanced": {"n_per_class": [20] * 4, "lam_w": [1e-3], "lam_h": 1e-4, "dims": [6]},
    "unequal": {"n_per_class": [60, 30, 10], "lam_w": [1e-3, 4e-3], "lam_h": 2e-4, "dims": [5, 4]},
    "deep": {"n_per_class": [60, 30, 20], "lam_w": [1e-3, 2e-3, 3e-3], "lam_h": 2e-4, "dims": [5, 4, 6]},
    "bottleneck": {"n_per_class": [9, 40, 20, 30], "lam_w": [1e-3, 1e-3], "lam_h": 1e-4, "dims": [7, 2]},
    "narrow features": {"n_per_class": [9, 9, 9], "lam_w": [1e-3], "lam_h": 1e-4, "dims": [2]},
    "bias": {"n_per_class": [20] * 4, "lam_w": [1e-3, 1e-3], "lam_h": 1e-4, "dims": [6, 3], "bias": True},
    "bias, unequal": {"n_per_class": [50, 20, 5], "lam_w": [1e-3], "lam_h": 1e-4, "dims": [6], "bias": True},
    "cross-entropy": {"n_per_class": [20] * 4, "lam_w": [1e-3], "lam_h": 1e-4, "dims": [6], "loss": "ce"},
    "deep cross-entropy": {"n_per_class": [9] * 3, "lam_w": [1e-4] * 3, "lam_h": 1e-4, "dims": [6] * 3, "loss": "ce"},
    "a class dies": {"n_per_class": [200, 100, 50, 1], "lam_w": [2e-3] * 2, "lam_h": 1e-3, "dims": [6, 6]},
}  # fmt: skip


def problem(case):
    return DeepLinearUFM(**CASES[case])


def tensors(point):
    return [torch.from_numpy(a.copy()).requires_grad_() for a in (point.features, *point.weights, point.bias)]


def value(ufm, parts):
    return ufm.objective(parts[1:-1], parts[0], parts[-1])


def each(*cases):
    return pytest.mark.parametrize("case", cases or list(CASES))


@each()
def test_it_is_stationary_and_its_loss_is_the_formula(case):
    ufm = problem(case)
    parts = tensors(ufm.target.construct(0))
    found = value(ufm, parts)
    assert float(found.detach()) == pytest.approx(ufm.target.loss, rel=1e-12)
    free = parts if ufm.bias or ufm.loss == "ce" else parts[:-1]
    for slope in torch.autograd.grad(found, free):
        assert slope.norm() < 1e-8


@each()
def test_nothing_near_is_lower(case):
    ufm, rng = problem(case), np.random.default_rng(0)
    with torch.no_grad():
        start = tensors(ufm.target.construct(0))
        for _ in range(20):
            moved = [p + 1e-3 * torch.from_numpy(rng.normal(size=p.shape)) for p in start]
            if not ufm.bias:
                moved[-1] = start[-1]
            assert value(ufm, moved) > ufm.target.loss


@each()
def test_lengths_are_those_of_what_is_constructed(case):
    sol = problem(case).target
    point = sol.construct(1)
    P = np.linalg.multi_dot(point.weights[::-1]) if len(point.weights) > 1 else point.weights[0]
    means = np.stack(
        [point.features[:, point.labels == k].mean(1) for k in range(len(sol.n_per_class))], axis=1
    )
    np.testing.assert_allclose(P @ P.T, sol.classifier_gram, atol=1e-10)
    np.testing.assert_allclose(means.T @ means, sol.mean_gram, atol=1e-10)
    np.testing.assert_allclose(P @ means + point.bias[:, None], sol.logits, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(P, axis=1), sol.classifier_norms, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(means, axis=0), sol.mean_norms, atol=1e-10)


@each("balanced", "unequal", "deep", "a class dies")
def test_each_singular_value_alone_minimises_fit_and_quasi_norm(case):
    """The oracle: (sqrt n - s)^2 / 2N + (M + 1) / 2 (c s^2)^(1 / (M + 1)), searched on a grid and refined."""
    sol = problem(case).target
    N, M, c = sol.n_per_class.sum(), len(sol.lam_w), sol.lam_h * np.prod(sol.lam_w)

    def share(s, n):
        return (np.sqrt(n) - s) ** 2 / (2 * N) + (M + 1) / 2 * (c * s**2) ** (1 / (M + 1))

    total = 0.0
    for n, q in zip(sol.n_per_class, sol.shares):
        grid = np.linspace(0, np.sqrt(n), 2001)
        best = grid[share(grid, n).argmin()]
        if best:
            step = grid[1]
            best = minimize_scalar(
                share, (best - step, best, best + step), args=(n,), options={"xtol": 1e-12}
            ).x
        assert q * np.sqrt(n) == pytest.approx(best, abs=1e-6)
        total += share(best, n)
    assert sol.loss == pytest.approx(total, rel=1e-10)


def test_one_layer_explicitly():
    n = np.array([100, 50, 25, 10])
    sol = ufm_minimizer(n, 1e-3, 1e-5)
    np.testing.assert_allclose(sol.classifier_norms**2, np.sqrt(n * 1e-5 / 1e-3) - 185 * 1e-5, rtol=1e-12)
    assert (np.diff(sol.classifier_norms) < 0).all()
    assert (np.diff(sol.mean_norms) > 0).all()


@pytest.mark.parametrize("lams", [[1e-3], [1e-3, 4e-3], [2e-3, 1e-3, 1e-3]])
def test_classes_may_be_in_any_order(lams):
    n, order = np.array([40, 10, 30, 25]), np.array([2, 0, 3, 1])
    one, other = ufm_minimizer(n, lams, 1e-4), ufm_minimizer(n[order], lams, 1e-4)
    np.testing.assert_allclose(other.classifier_gram, one.classifier_gram[order][:, order])
    np.testing.assert_allclose(other.mean_norms, one.mean_norms[order])
    assert other.loss == pytest.approx(one.loss, rel=1e-14)


@pytest.mark.parametrize("M", [1, 2, 3, 6])
def test_the_threshold_is_sharp(M):
    N, n = 1000, 50
    level = (M - 1) ** ((M - 1) / M) / M if M > 1 else 1.0
    c = (n * level / (M * N)) ** M / N  # beta / n is the level
    for factor, alive in ((1 - 1e-6, True), (1 + 1e-6, False)):
        sol = ufm_minimizer([n, N - n], [1.0] * M, c * factor**M)
        assert sol.alive.tolist() == [alive, True]
        assert sol.threshold == pytest.approx(n * factor, rel=1e-9)
    assert not ufm_minimizer([n, N - n], [1.0] * M, 1e3).alive.any()


def test_a_bias_makes_a_simplex_of_balanced_classes():
    sol = ufm_minimizer([30] * 5, [1e-3, 1e-3], 1e-4, bias=True)
    wanted = (np.eye(5) - 0.2) / 2
    np.testing.assert_allclose(sol.bias, 0.2)
    for gram in (sol.classifier_gram, sol.mean_gram):
        np.testing.assert_allclose(gram / np.linalg.norm(gram), wanted, atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_all_metrics_of_the_solution_are_zero_at_every_layer(loss):
    ufm = DeepLinearUFM([12] * 4, [6, 5], [1e-3] * 2, 1e-4, loss, loss == "mse")
    point = ufm.target.construct(0)
    H, labels = point.features.T, point.labels
    for rows, W in ((H, point.weights[1] @ point.weights[0]), (H @ point.weights[0].T, point.weights[1])):
        assert nc1(rows, labels) < 1e-20
        assert nc2(rows, labels) < 1e-10
        assert nc3(rows, labels, W) < 1e-10


def test_a_polygon_can_beat_the_simplex_with_cross_entropy():
    """Logits r cos(2 pi (i - j) / K) from factors of rank two, with the loss of the very problem."""
    K, n, M, lam = 10, 20, 6, 1e-4
    with pytest.warns(UserWarning, match="polygon"):
        ufm = DeepLinearUFM([n] * K, [12] * M, lam, lam, "ce")
    angles = 2 * np.pi * np.arange(K) / K
    V = np.c_[np.cos(angles), np.sin(angles)] / np.sqrt(K / 2)
    lowest = np.inf
    for r in np.linspace(20, 200, 200):
        s = (r * np.sqrt(n) * K / 2) ** (1 / (M + 1))
        frame = np.eye(12)[:, :2]
        weights = [s * frame @ frame.T] * (M - 1) + [s * V @ frame.T]
        features = s * (frame @ V.T / np.sqrt(n))[:, ufm.labels]
        parts = [torch.from_numpy(a) for a in (features, *weights, np.zeros(K))]
        lowest = min(lowest, float(value(ufm, parts)))
    assert lowest < ufm.target.loss
    assert ufm.target.simplex_only
    assert not ufm_minimizer([n] * K, lam, lam, loss="ce").simplex_only


def test_predictions_for_a_networks_own_conventions():
    n = [40, 20, 10]
    plain = predict_geometry(n, [1e-3, 1e-3], 1e-5)
    assert plain == ufm_minimizer(n, [1e-3, 1e-3], 1e-5)
    mean = predict_geometry(n, 1e-3, 1e-5, criterion="mse_mean")  # 2 / 3 of the loss, the same decay
    assert mean.loss * 2 / 3 < ufm_minimizer(n, 1e-3, 1e-5).loss
    np.testing.assert_allclose(mean.shares, ufm_minimizer(n, 1.5e-3, 1.5e-5).shares)


def test_results_travel_print_and_draw():
    sol = ufm_minimizer([200, 100, 1], [2e-3, 2e-3], 1e-3)
    assert type(sol).from_json(sol.to_json()) == sol
    assert "collapsed to zero" in str(sol)
    assert len(sol.to_frame()) == 3
    assert sol.plot() is not None


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([5], 1e-3, 1e-3), ValueError, "two classes"),
        (([5, 0], 1e-3, 1e-3), ValueError, "without samples"),
        (([5, 2.5], 1e-3, 1e-3), ValueError, "whole"),
        (([5, 5], 0.0, 1e-3), ValueError, "lam_w"),
        (([5, 5], 1e-3, -1.0), ValueError, "lam_h"),
        (([5, 5], [1e-3, np.nan], 1e-3), ValueError, "lam_w"),
    ],
)
def test_bad_numbers(arguments, error, words):
    with pytest.raises(error, match=words):
        ufm_minimizer(*arguments)


def test_what_has_no_closed_form():
    with pytest.raises(NotImplementedError, match="squared error"):
        ufm_minimizer([5, 4], 1e-3, 1e-3, loss="ce")
    with pytest.raises(ValueError, match="K - 1"):
        ufm_minimizer([5] * 4, 1e-3, 1e-3, dims=[2], loss="ce")
    with pytest.raises(ValueError, match="one width for each"):
        ufm_minimizer([5] * 4, [1e-3] * 2, 1e-3, dims=[2])


def test_any_rotation_of_the_hidden_spaces_has_the_same_loss():
    ufm = problem("deep")
    point = ufm.target.construct(0)
    Q = ortho_group.rvs(5, random_state=0)
    parts = [Q @ point.features, point.weights[0] @ Q.T, *point.weights[1:], point.bias]
    assert float(value(ufm, [torch.from_numpy(p) for p in parts])) == pytest.approx(
        ufm.target.loss, rel=1e-12
    )
