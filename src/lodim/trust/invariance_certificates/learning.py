"""One regression for all environments: a test that there is one, and fits that look for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import chdtrc, fdtrc

from lodim.metrics import holm
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.trust.invariance_certificates.certificates import (
    OVERFLOW,
    InvarianceCertificate,
    certify,
    read_representation,
)
from lodim.trust.invariance_certificates.environments import read_covariances, read_environments
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_fraction,
    check_in_range,
    check_matrix,
    checked,
    warn,
)

__all__ = ["InvarianceTest", "InvariantFit", "fit_invariant", "invariance_test"]

PENALTIES = ("pooled", "irm", "minimax", "subset")
_SPREAD = (
    1e-8  # of a direction within and outside of an environment, as a share, below which it cannot differ
)
_ROOM = 0.5  # 1 - h below which a row's residual from regressions apart says too little of its variance
_EXACT = 1e-9  # residuals, relative to y, that are rounding
_POWER = 8  # the power mean that stands for the maximum


# ---- the test


@dataclass(frozen=True)
class InvarianceTest(Result):
    """Whether one regression of y on Phi X, with an intercept, serves all environments.

    Attributes
    ----------
    names : tuple of str
    p_values : ndarray, shape (n_environments,)
        Of each environment against all others together.
    adjusted : ndarray, shape (n_environments,)
        The same after Holm's correction.
    differs : tuple of int
        Numbers of the environments whose adjusted value is at most ``level``; of two environments both or none.
    p_value : float
        Of all environments agreeing: the smallest adjusted value.
    """

    names: tuple[str, ...]
    p_values: np.ndarray
    adjusted: np.ndarray
    differs: tuple[int, ...]
    p_value: float
    level: float

    def __str__(self) -> str:
        if self.differs:
            listed = ", ".join(self.names[i] for i in self.differs[:10])
            return f"One regression does not serve all environments (p = {self.p_value:.2g}): {listed} differ(s)."
        return (
            f"No difference between {len(self.names)} environments is seen (p = {self.p_value:.2g}); with few rows "
            "that does not mean that there is none."
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the environments, one a row."""
        return pd.DataFrame(
            {
                "environment": self.names,
                "p": self.p_values,
                "p_adjusted": self.adjusted,
                "differs": [i in self.differs for i in range(len(self.names))],
            }
        )


@checked
def invariance_test(
    environments: Any, Phi: Any = None, *, level: float | np.floating = 0.05
) -> InvarianceTest:
    r"""Test that one regression of y on Phi X, with an intercept, serves all environments.

    Each environment is compared with all others together, so that one that is very different can show as a difference
    of the others too: look at the smallest p-value first, and test again without it. With pooled residuals e and the
    columns (1, Phi X) of its rows, zero elsewhere, from which the pooled columns are regressed out, D, the score is
    :math:`s = D^T e`, and

    .. math:: T = s^T \Big(\sum_i \tilde e_i^2 D_i D_i^T\Big)^{-1} s, \qquad \tilde e_i = a_i / (1 - h_i),

    is asymptotically :math:`\chi^2_q` whatever the variances of the errors. Residuals a and leverages h are those of
    two regressions, the environment's and that of the others: residuals of the pooled one grow with a difference, and
    hide it where rows are few. Of rows with h above a half, which the regressions follow, the larger of both kinds
    (pooled: :math:`e_i^2 / (1 - h_i)`) is taken. T / q is compared with the F distribution
    of q and nu degrees of freedom, where nu, Kish's effective number of the rows' contributions, is small where few
    rows decide. Where y has two values (0 and 1, say) their variance follows from the mean, p (1 - p), which is the
    better estimate for rare ones but needs the regression to be the probability; the larger of both tests' values is
    taken, which is valid where either is. With few rare outcomes the test is conservative. Chow's F test, which takes
    one variance for all, is not used: outcomes of two values break it.

    Parameters
    ----------
    environments : sequence of pairs (X, y), or mapping of names to pairs
    Phi : array-like, shape (k, d), optional
        None: all columns as they are.
    level : float
        Of the family of tests, after Holm's correction.

    Raises
    ------
    ValueError
        Less than 2 environments, different columns, or an environment with fewer rows than Phi has, and two.
    """
    check_fraction(level, "level")
    rows = read_environments(environments)
    matrix = read_representation(Phi, rows.n_columns)
    for name, X in zip(rows.names, rows.X):
        if len(X) < len(matrix) + 2:
            raise ValueError(
                f"environment {name} has {len(X)} rows where at least {len(matrix) + 2} are needed; leave it out, or "
                "merge it with another"
            )
    with np.errstate(over="ignore", invalid="ignore"):
        X, y = np.concatenate(rows.X) @ matrix.T, np.concatenate(rows.y)
    if not np.isfinite(X).all():
        raise ValueError(OVERFLOW)
    X, y = (each / np.maximum(np.abs(each).max(0), 1e-300) for each in (X, y))
    at = np.repeat(np.arange(len(rows.names)), [len(each) for each in rows.y])
    p = _compare(X, y, at, len(rows.names))
    adjusted = holm(p) if len(p) > 2 else p  # of two environments each against the other is one test, not two
    differs = tuple(int(i) for i in np.flatnonzero(adjusted <= level))
    return InvarianceTest(rows.names, p, adjusted, differs, float(adjusted.min()), float(level))


def _compare(X: np.ndarray, y: np.ndarray, at: np.ndarray, m: int) -> np.ndarray:
    """The p-value of each environment against the others."""
    scale = X.std(0)
    Z = np.column_stack([np.ones(len(X)), (X - X.mean(0)) / np.where(scale > 0, scale, 1)])
    U, values, _ = np.linalg.svd(Z, full_matrices=False)
    U = U[:, values > 1e-10 * values[0]]
    fit = U @ (U.T @ y)
    e = y - fit
    # what is rounding goes by the spread of y, and by its digits where that is small beside its level
    if np.abs(e).max() <= _EXACT * np.ptp(y) + 64 * np.finfo(float).eps:
        return np.ones(m)  # one regression holds exactly
    leverage = np.square(U).sum(1)
    squares = e**2 / np.maximum(1 - leverage, 1e-8)
    levels = np.unique(y)
    share = (fit - levels[0]) / np.ptp(levels)
    known = np.maximum(share * (1 - share), 1e-3) * np.ptp(levels) ** 2 if len(levels) == 2 else None
    p = np.ones(m)
    for i in range(m):
        inside = at == i
        spread, turn = np.linalg.eigh(U[inside].T @ U[inside])
        kept = spread * (1 - spread) > _SPREAD  # else it has no spread within, or none outside
        if not kept.any():
            continue
        own, spread = U @ turn[:, kept], spread[kept]
        D = np.where(inside[:, None], own, 0) - own * spread
        s = own[inside].T @ e[inside]
        Q = D / np.sqrt(spread * (1 - spread))  # orthonormal
        apart, room = e - Q @ (Q.T @ e), 1 - leverage - np.square(Q).sum(1)
        variances = np.where(room > 1e-6, np.square(apart / np.maximum(room, 1e-6)), 0)
        variances = np.where(room < _ROOM, np.maximum(variances, squares), variances)
        p[i] = _score_p(s, D, variances, True)
        if known is not None:
            p[i] = max(p[i], _score_p(s, D, known, False))
    return p


def _score_p(s: np.ndarray, D: np.ndarray, variances: np.ndarray, estimated: bool) -> float:
    V = (D * variances[:, None]).T @ D
    values, vectors = np.linalg.eigh(V)
    kept = values > 1e-10 * values[-1]
    if values[-1] <= 0 or not kept.any():
        return 1.0
    half = vectors[:, kept] / np.sqrt(values[kept])
    q, T = int(kept.sum()), float(np.square(s @ half).sum())
    if not estimated:
        return float(chdtrc(q, T))
    shares = np.square(D @ half).sum(1) * variances  # they sum to q
    return float(fdtrc(q, max(q * q / np.square(shares).sum(), 1.0), T / q))


# ---- fits


@dataclass(frozen=True)
class InvariantFit(Result):
    """A representation and head learnt from environments, and what can be certified of them.

    Attributes
    ----------
    Phi : ndarray, shape (k, d)
    w : ndarray, shape (k,)
    risk : float
        Mean squared error (of centred y), averaged over environments.
    columns : tuple of int
        Of ``penalty="subset"``: the columns that were chosen.
    accepted : tuple of tuple of int
        Of ``penalty="subset"``: all invariant subsets.
    certificate : InvarianceCertificate
        In the learnt mode, with the held-out bound beside it.
    """

    Phi: np.ndarray
    w: np.ndarray
    penalty: str
    risk: float
    columns: tuple[int, ...]
    accepted: tuple[tuple[int, ...], ...]
    certificate: InvarianceCertificate

    def __str__(self) -> str:
        what = f"columns {list(self.columns)}" if self.columns else f"{len(self.Phi)} direction(s)"
        return f"Invariant fit ({self.penalty}): {what}, risk {self.risk:.4g}\n{self.certificate}"

    def predict(self, X: Any) -> np.ndarray:
        """Return Phi^T w applied to rows, up to each environment's own intercept."""
        table = check_matrix(X)
        if table.shape[1] != self.Phi.shape[1]:
            raise ValueError(f"X must have {self.Phi.shape[1]} columns, as at the fit; got {table.shape[1]}")
        return table @ (self.Phi.T @ self.w)


@checked
def fit_invariant(
    environments: Any = None,
    k: int | np.integer | None = None,
    penalty: str = "irm",
    *,
    covariances: Any = None,
    strength: float | int | np.floating = 10.0,
    level: float | np.floating = 0.05,
    tol: float | np.floating = 1e-8,
    n_restarts: int | np.integer = 4,
    random_state: RandomState = 0,
    **options: Any,
) -> InvariantFit:
    r"""Learn a representation and its head from environments, and certify them in the learnt mode.

    With :math:`\beta = \Phi^T w` and orthonormal rows of Phi (or shrinking Phi would shrink every gradient), the fit
    minimises the mean risk plus ``strength`` times a penalty of the :math:`g_e`, in units of the mean variance of a
    column.

    Parameters
    ----------
    environments : sequence of pairs (X, y), or mapping of names to pairs
    k : int, optional
        Rows of Phi; of ``"subset"`` the most columns. None: all columns.
    penalty : {"pooled", "irm", "minimax", "subset"}
        ``"pooled"``: none, least squares on the k leading principal components. ``"irm"``: the mean of g squared, a
        quadratic problem where k is d. ``"minimax"``: the largest g squared (their power mean of order 8).
        ``"subset"``: all subsets of at most 15 columns with their pooled head; of those accepted the one with the
        least risk, the smaller of equals. Accepted is what :func:`invariance_test` does not reject at ``level``; with
        covariances, a largest g of at most ``tol`` times that of w = 0.
    covariances : array-like, shape (m, d + 1, d + 1), optional
        Instead of environments.
    strength, level, tol : float
    n_restarts : int
        Random starts where k is below d.
    random_state : int, Generator or None
    **options
        To :func:`certify`: ``eps``, ``gamma``, ``sites``, ``in_degrees``, ``n_bootstrap``.

    Raises
    ------
    ValueError
        More rows than columns, more than 15 columns to search, or no subset that is invariant.

    Warns
    -----
    ConvergenceWarning
        The best start did not converge.
    """
    check_choice(penalty, PENALTIES, "penalty")
    if "mode" in options:
        raise ValueError("a fit is certified in the learnt mode; for another give its Phi and w to certify")
    check_in_range(strength, "strength", low=0)
    check_fraction(level, "level")
    check_in_range(tol, "tol", low=0)
    check_counts(n_restarts=n_restarts)
    if (environments is None) == (covariances is None):
        raise ValueError("give environments, pairs (X, y), or covariances, and not both")
    rows = None
    if covariances is None:
        if isinstance(environments, Iterable) and not isinstance(environments, Mapping | str):
            environments = list(environments)  # they are gone through more than once
        rows = read_environments(environments)
        tables = [np.column_stack([X, y]) for X, y in zip(rows.X, rows.y)]
        cov = np.stack([np.cov(Z.T, ddof=0) for Z in tables])
    else:
        cov = read_covariances(covariances)
    d = cov.shape[1] - 1
    k = int(check_in_range(d if k is None else k, "k", low=1, high=d, integer=True))
    rng, mean = as_generator(random_state), cov.mean(0)
    accepted: tuple[tuple[int, ...], ...] = ()
    columns: tuple[int, ...] = ()
    if penalty == "subset":
        Phi, w, columns, accepted = _search(cov, mean, k, environments, float(level), float(tol))
    elif penalty == "pooled":
        Phi = np.eye(d) if k == d else np.linalg.eigh(mean[:-1, :-1])[1][:, ::-1][:, :k].T
        w = _pooled(Phi, mean)
    elif penalty == "irm" and k == d:
        # mean risk + c mean |S w - s|^2 has a linear gradient in w
        S, s = cov[:, :-1, :-1], cov[:, :-1, -1]
        c = float(strength) * d / max(np.trace(mean[:-1, :-1]), 1e-300)
        A = S.mean(0) + c * (S @ S).mean(0)
        Phi, w = np.eye(d), np.linalg.pinv(A) @ (s + c * (S @ s[..., None])[..., 0]).mean(0)
    else:
        Phi, w = _descend(cov, k, penalty, float(strength), int(n_restarts), rng)
    head = np.append(Phi.T @ w, -1.0)
    given = {"covariances": cov} if rows is None else {"environments": environments}
    certificate = certify(Phi, w, **given, mode="learned", random_state=rng, **options)
    return InvariantFit(Phi, w, penalty, float(head @ mean @ head), columns, accepted, certificate)


def _pooled(Phi: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The head of the mean covariance."""
    return np.linalg.pinv(Phi @ mean[:-1, :-1] @ Phi.T) @ (Phi @ mean[:-1, -1])


def _search(
    cov: np.ndarray, mean: np.ndarray, k: int, environments: Any, level: float, tol: float
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], tuple[tuple[int, ...], ...]]:
    d = cov.shape[1] - 1
    if d > 15:
        raise ValueError(
            f"subsets of at most 15 columns are searched, got {d}; drop some, or take another penalty"
        )
    found = []
    scale = max(float(np.linalg.norm(cov[:, :-1, -1], axis=1).max()), 1e-300)
    for size in range(1, k + 1):
        for subset in itertools.combinations(range(d), size):
            Phi = np.eye(d)[list(subset)]
            w = _pooled(Phi, mean)
            if environments is None:
                beta = Phi.T @ w
                g = np.linalg.norm((cov[:, :-1, :-1] @ beta - cov[:, :-1, -1])[:, list(subset)], axis=1).max()
                invariant = g <= tol * scale
            else:
                invariant = invariance_test(environments, Phi, level=level).p_value > level
            if invariant:
                head = np.append(Phi.T @ w, -1.0)
                found.append((float(head @ mean @ head), subset, Phi, w))
    if not found:
        raise ValueError("no subset of the columns is invariant; take another penalty, or more columns")
    # risks that differ by rounding only are equal, and the first of them has fewest columns
    best = min(risk for risk, *_ in found)
    _, subset, Phi, w = next(each for each in found if each[0] <= best + 1e-9 * mean[-1, -1])
    return Phi, w, subset, tuple(each[1] for each in found)


@torch.inference_mode(False)
def _descend(
    cov: np.ndarray, k: int, penalty: str, strength: float, n_restarts: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise over Phi, as the orthonormal factor of a free matrix, and w, by L-BFGS from several starts."""
    stack = torch.from_numpy(cov)
    S, s, d = stack[:, :-1, :-1], stack[:, :-1, -1], cov.shape[1] - 1
    unit = max(float(np.trace(cov.mean(0)[:-1, :-1])) / d, 1e-300)
    height = max(float(cov[:, -1, -1].mean()), 1e-300)  # the objective in units of the variance of y

    def split(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        Q = torch.eye(d, dtype=flat.dtype) if k == d else torch.linalg.qr(flat[k:].reshape(d, k))[0]
        return Q.T, flat[:k]

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        flat = torch.from_numpy(values).requires_grad_()
        Phi, w = split(flat)
        beta = Phi.T @ w
        r = S @ beta - s
        risk = (r @ beta - s @ beta).mean() + stack[:, -1, -1].mean()
        g2 = (r @ Phi.T).square().sum(1) / unit
        top = g2.detach().max().clamp_min(1e-300)
        part = g2.mean() if penalty == "irm" else top * (g2 / top).pow(_POWER).mean().pow(1 / _POWER)
        loss = (risk + strength * part) / height
        loss.backward()
        assert flat.grad is not None
        return float(loss.detach()), flat.grad.numpy()

    pooled = np.linalg.pinv(cov.mean(0)[:-1, :-1]) @ cov.mean(0)[:-1, -1]
    found: list[Any] = []
    for start in range(n_restarts if k < d else 1):
        A = rng.normal(size=(d, k))
        if start == 0:
            A[:, 0] = pooled
        Q = np.linalg.qr(A)[0] if k < d else np.eye(d)
        first = np.r_[Q.T @ pooled, [] if k == d else A.ravel()]
        found.append(minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": 2000}))
    best = min(found, key=lambda each: each.fun)
    # line searches end in rounding at a minimum, where the gradient tells
    if not best.success and np.abs(best.jac).max() > 1e-3:
        warn(f"the fit did not converge: {best.message}", ConvergenceWarning, stacklevel=4)
    Phi, w = split(torch.from_numpy(best.x))
    return np.ascontiguousarray(Phi.numpy()), w.numpy().copy()
