"""Coding rates against closed forms and Jensen's inequality, in both of Sylvester's forms."""

import importlib
import math

import numpy as np
import pytest
import torch

from lodim.linalg import sinkhorn
from lodim.metrics import coding_rate, rate_reduction

EPS2 = 0.3


def unit_rows(n, d, seed=0):
    Z = np.random.default_rng(seed).normal(size=(n, d))
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def doubly_stochastic(n, eta=0.2, seed=0):
    scores = np.random.default_rng(seed).uniform(size=(n, n))
    return sinkhorn(scores + scores.T, eta, symmetric=True, max_iter=500, tol=1e-7).plan


def by_definition(Z, eps2):
    n, d = Z.shape
    return np.linalg.slogdet(np.eye(d) + d / (n * eps2) * Z.T @ Z)[1]


@pytest.mark.parametrize("k", [1, 3, 8])
def test_rows_spread_over_orthonormal_directions_have_a_closed_form(k):
    d, Q = 8, np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    Z = np.repeat(Q[:k], 5, axis=0)
    assert coding_rate(Z, EPS2) == pytest.approx(k * math.log1p(d / (k * EPS2)))


@pytest.mark.parametrize(("n", "d"), [(30, 4), (4, 30), (6, 6)])
def test_rates_are_the_definitions_and_know_no_rotation(n, d, monkeypatch):
    Z = unit_rows(n, d)
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))[0]
    gamma = doubly_stochastic(n)
    assert coding_rate(Z, EPS2) == pytest.approx(by_definition(Z, EPS2))
    assert coding_rate(Z @ Q, EPS2) == pytest.approx(coding_rate(Z, EPS2))
    each = [np.linalg.slogdet(np.eye(d) + d / EPS2 * Z.T @ np.diag(g) @ Z)[1] for g in gamma.T]
    assert coding_rate(Z, EPS2, gamma) == pytest.approx(np.mean(each))
    assert rate_reduction(Z @ Q, gamma, EPS2) == pytest.approx(rate_reduction(Z, gamma, EPS2))
    several = coding_rate(np.stack([Z, 2 * Z]), EPS2, np.stack([gamma, gamma]))
    np.testing.assert_allclose(several, [coding_rate(Z, EPS2, gamma), coding_rate(2 * Z, EPS2, gamma)])
    np.testing.assert_allclose(coding_rate(np.stack([Z, 2 * Z]), EPS2, gamma), several)
    learned = torch.from_numpy(gamma).requires_grad_()
    np.testing.assert_allclose(coding_rate(np.stack([Z, 2 * Z]), EPS2, learned), several)
    monkeypatch.setattr(importlib.import_module(coding_rate.__module__), "_MOST_PAIRS", 7 * d * d)
    np.testing.assert_allclose(coding_rate(np.stack([Z, 2 * Z]), EPS2, gamma), several)


def test_one_group_saves_nothing_and_blocks_save_what_labels_do():
    Z, n = unit_rows(40, 5), 40
    assert coding_rate(Z, EPS2, np.full((n, n), 1 / n)) == pytest.approx(coding_rate(Z, EPS2))
    labels = np.arange(n) % 3
    one_hot = np.eye(3)[labels]
    blocks = one_hot @ np.diag(1 / one_hot.sum(0)) @ one_hot.T
    supervised = sum(np.mean(labels == j) * by_definition(Z[labels == j], EPS2) for j in range(3))
    assert coding_rate(Z, EPS2, one_hot) == pytest.approx(supervised)
    assert coding_rate(Z, EPS2, blocks) == pytest.approx(supervised)
    assert coding_rate(Z, EPS2, np.c_[one_hot, np.zeros(n)]) == pytest.approx(supervised)


@pytest.mark.parametrize(("n", "d"), [(20, 4), (5, 12)])
def test_grouping_never_costs_and_every_row_for_itself_costs_least(n, d):
    """R - Rc is at least 0 by Jensen's inequality, and convex, so that a permutation has its maximum."""
    Z = unit_rows(n, d)
    least = coding_rate(Z, EPS2, np.eye(n))
    assert least == pytest.approx(math.log1p(d / EPS2))
    for seed, eta in enumerate((0.07, 0.2, 0.5, 3.0)):
        gamma = doubly_stochastic(n, eta, seed)
        assert -1e-10 <= rate_reduction(Z, gamma, EPS2) <= coding_rate(Z, EPS2) - least + 1e-10
        between = rate_reduction(Z, (gamma + np.eye(n)) / 2, EPS2)
        assert between <= (rate_reduction(Z, gamma, EPS2) + coding_rate(Z, EPS2) - least) / 2 + 1e-10
    shares = np.random.default_rng(0).dirichlet(np.ones(3), n)
    assert rate_reduction(Z, shares, EPS2) >= 0


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 6)])
def test_gradients(n, d):
    Z = torch.from_numpy(unit_rows(n, d)).requires_grad_()
    shares = torch.from_numpy(doubly_stochastic(n)).requires_grad_()
    assert torch.autograd.gradcheck(lambda Z, shares: rate_reduction(Z, shares, EPS2), (Z, shares))
    hard = torch.eye(n, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(coding_rate(Z, EPS2, hard), hard)
    assert bool(slopes.isfinite().all())


def test_precision_is_kept_where_the_session_has_less():
    Z = torch.from_numpy(unit_rows(60, 8)).float()
    shares = torch.from_numpy(doubly_stochastic(60)).float()
    expected = rate_reduction(Z, shares, EPS2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rate_reduction(Z, shares, EPS2), expected)
    assert coding_rate(Z.half(), EPS2).dtype == torch.float16
    assert float(coding_rate(Z, 1e-12)) == pytest.approx(coding_rate(Z.double().numpy(), 1e-12), rel=1e-5)
    assert coding_rate(1e-200 * Z.double().numpy(), EPS2) == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eps2": 0}, "eps2 must be positive"),
        ({"Z": np.ones(4)}, "rows of features"),
        ({"Z": np.full((4, 2), np.nan)}, "Z must be finite"),
        ({"Z": np.full((4, 2), 1e200)}, "Z must be finite"),
        ({"membership": np.eye(3)}, "each of the 4 rows"),
        ({"membership": 2 * np.eye(4)}, "sum to 1"),
        ({"Z": np.ones((2, 4, 2)), "membership": np.ones((3, 4, 1))}, "batches that go together"),
        ({"membership": np.c_[2 * np.ones(4), -np.ones(4)]}, "nonnegative"),
        ({"membership": np.full((4, 4), np.nan)}, "nonnegative"),
    ],
)
def test_what_has_no_rate_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        rate_reduction(**{"Z": unit_rows(4, 2), "membership": np.eye(4), "eps2": EPS2, **change})
