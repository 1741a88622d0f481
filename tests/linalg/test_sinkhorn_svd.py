"""Sinkhorn's marginals, limits, gradients and POT's plan; leading singular vectors against LAPACK."""

import numpy as np
import pytest
import scipy.sparse
import torch

from lodim.linalg import SinkhornPlan, randomised_svd, sinkhorn
from lodim.validation import ConvergenceWarning


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("symmetric", [False, True])
def test_square_plans_are_doubly_stochastic(symmetric):
    S = draw(2, 9, 9)
    S = S + S.swapaxes(1, 2)
    found = sinkhorn(S, 1.0, symmetric=symmetric, tol=1e-9, max_iter=2000)
    assert found.converged
    np.testing.assert_allclose(found.plan.sum(-1), 1, atol=1e-8)
    np.testing.assert_allclose(found.plan.sum(-2), 1, atol=1e-8)
    np.testing.assert_allclose(found.plan, found.plan.swapaxes(1, 2), atol=1e-7 * (not symmetric))
    np.testing.assert_allclose(found.plan, np.exp(S + found.u[..., None] + found.v[..., None, :]), rtol=1e-10)
    np.testing.assert_allclose(sinkhorn(S[1], 1.0, tol=1e-9, max_iter=2000).plan, found.plan[1], atol=1e-7)


def test_limits_of_the_entropy():
    S = draw(6, 6)
    np.testing.assert_allclose(sinkhorn(S, 1e7).plan, 1 / 6, atol=1e-6)
    S = S + 5 * np.eye(6)[[3, 0, 5, 1, 4, 2]]
    np.testing.assert_allclose(sinkhorn(S, 0.02).plan, np.eye(6)[[3, 0, 5, 1, 4, 2]], atol=1e-8)
    assert np.isfinite(sinkhorn(1e6 * S, 1.0).plan).all()  # exp(1e6) overflows outside the log domain


def test_plans_are_pots():
    ot = pytest.importorskip("ot")
    cost, a, b = draw(5, 8) ** 2, np.full(5, 0.2), np.random.default_rng(1).dirichlet(np.ones(8))
    found = sinkhorn(-cost, 0.5, a, b, tol=1e-11, max_iter=5000)
    expected = ot.sinkhorn(a, b, cost, 0.5, method="sinkhorn_log", stopThr=1e-12, numItermax=5000)
    np.testing.assert_allclose(found.plan, expected, atol=1e-9)
    assert SinkhornPlan.from_json(found.to_json()) == found
    assert "marginal error" in str(found)


def test_forbidden_entries_and_empty_marginals():
    S = draw(4, 4)
    S[0, :2] = -np.inf
    found = sinkhorn(S, 1.0, tol=1e-6, max_iter=2000)
    assert (found.plan[0, :2] == 0).all()
    a = np.array([0.5, 0, 0.25, 0.25])
    plan = sinkhorn(draw(4, 4), 1.0, a, a, tol=1e-8, max_iter=1000).plan
    assert (plan[1] == 0).all()
    np.testing.assert_allclose(plan.sum(0), a, atol=1e-7)
    S[0] = -np.inf
    with pytest.raises(ValueError, match="only forbidden entries"):
        sinkhorn(S, 1.0)


@pytest.mark.parametrize("symmetric", [False, True])
def test_padding_is_as_if_it_were_not_there(symmetric):
    S = torch.from_numpy(draw(5, 5))
    S = (S + S.mT).requires_grad_()
    kept = torch.arange(5) != 2
    a = kept.double().requires_grad_()
    padded = torch.where(kept[:, None] & kept, S, -torch.inf)
    options = {"b": None if symmetric else a, "symmetric": symmetric, "tol": 1e-9, "max_iter": 2000}
    found = sinkhorn(padded, 1.0, a, **options)
    alone = sinkhorn(S[kept][:, kept], 1.0, symmetric=symmetric, tol=1e-9, max_iter=2000)
    torch.testing.assert_close(found.plan[kept][:, kept], alone.plan)
    assert found.plan.sum().item() == pytest.approx(4)
    for slope in torch.autograd.grad(found.plan.square().sum(), (S, a)):
        assert bool(slope.isfinite().all())


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients(symmetric):
    S = torch.from_numpy(draw(2, 3, 3)).requires_grad_()
    weight = torch.from_numpy(draw(3, 3, seed=1))

    def value(S):
        S = S + S.mT if symmetric else S
        return (sinkhorn(S, 0.7, tol=None, max_iter=30, symmetric=symmetric).plan * weight).sum()

    assert torch.autograd.gradcheck(value, (S,))


def test_what_stays_off_is_said_and_fixed_iterations_are_silent(recwarn):
    S = 50 * draw(20, 20)
    assert not sinkhorn(S, 1.0, tol=None, max_iter=2).converged
    assert not recwarn.list
    with pytest.warns(ConvergenceWarning, match="marginals are off by"):
        found = sinkhorn(S, 1.0, max_iter=2)
    assert found.error > 1e-4
    assert found.n_iter == 2


def test_precisions_and_errors_of_sinkhorn():
    S = draw(4, 4)
    half = sinkhorn(torch.from_numpy(S).bfloat16(), 1.0)
    assert half.plan.dtype == torch.bfloat16
    np.testing.assert_allclose(half.plan.float().sum(0), 1, atol=0.02)
    assert sinkhorn(torch.from_numpy(S).float(), 1.0).converged
    np.testing.assert_allclose(sinkhorn(draw(3, 6), 1.0).plan.sum(0), 0.5)
    for message, arguments, options in (
        ("eta must be positive", (S, 0.0), {}),
        ("without NaN", (np.zeros((0, 3)), 1.0), {}),
        ("real numbers", (S + 1j, 1.0), {}),
        ("without NaN", (np.full((2, 2), np.nan), 1.0), {}),
        ("or infinity", (np.where(S > 0, np.inf, S), 1.0), {}),
        ("one total", (S, 1.0, np.full(4, 1e-9), np.full(4, 2e-9)), {}),
        ("4 nonnegative numbers, one set a matrix", (S, 1.0, np.ones((2, 4))), {}),
        ("one total", (S, 1.0, np.ones(4), np.full(4, 2.0)), {}),
        ("4 nonnegative", (S, 1.0, -np.ones(4)), {}),
        ("sums a and b is on the meta device", (S, 1.0, torch.ones(4, device="meta")), {}),
        ("square scores", (S[:3], 1.0), {"symmetric": True}),
    ):
        with pytest.raises(ValueError, match=message):
            sinkhorn(*arguments, **options)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (320, 250)])
@pytest.mark.parametrize("kind", ["array", "tensor", "sparse"])
def test_leading_triplets_are_lapacks(shape, kind):
    left, right = np.linalg.qr(draw(shape[0], 12))[0], np.linalg.qr(draw(shape[1], 12, seed=1))[0]
    s = 0.7 ** np.arange(12)
    A = (left * s) @ right.T
    given = {"array": A, "tensor": torch.from_numpy(A), "sparse": scipy.sparse.csr_array(A)}[kind]
    U, found, Vt = (np.asarray(part) for part in randomised_svd(given, 5))
    np.testing.assert_allclose(found, s[:5], rtol=1e-9)
    np.testing.assert_allclose(A @ Vt.T, U * found, atol=1e-8)
    np.testing.assert_allclose(U.T @ U, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.abs((U * left[:, :5]).sum(0)), 1, atol=1e-7)
    peaks = U[np.abs(U).argmax(0), np.arange(5)]
    assert (peaks > 0).all()


def test_seeds_and_errors_of_the_decomposition():
    A = draw(260, 240)
    A.flags.writeable = False
    for given in (A, torch.tensor(A)):
        first, again, other = (randomised_svd(given, 3, n_passes=0, random_state=s)[1] for s in (1, 1, 2))
        assert first.tolist() == again.tolist() != other.tolist()
    assert randomised_svd(torch.tensor(A).float(), 2).U.dtype == torch.float32
    assert randomised_svd(torch.ones(3, 3).bfloat16(), 1).s.tolist() == [3.0]
    assert randomised_svd(torch.ones(3, 3, dtype=torch.int64), 1).s.item() == pytest.approx(3)
    with pytest.raises(ValueError, match="rank must be at least 1 and at most 240"):
        randomised_svd(A, 241)
    with pytest.raises(ValueError, match="must be a matrix"):
        randomised_svd(A[0], 1)
    with pytest.raises(ValueError, match="n_passes must be at least 0"):
        randomised_svd(torch.tensor(A), 1, n_passes=-1)
    with pytest.raises(ValueError, match="masked"):
        randomised_svd(np.ma.masked_array(A, A > 0), 1)
    for bad in (np.full((3, 3), np.nan), np.full((300, 300), np.inf), torch.full((3, 3), torch.nan)):
        with pytest.raises(ValueError, match=r"NaN|infinity|finite"):
            randomised_svd(bad, 1)
