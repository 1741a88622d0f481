r"""The objective of supervised dictionary learning and the paper's two ways down it.

**Low-rank projected gradient** (``lpgd``) lifts the problem to coefficients A and a reconstruction B = H W. With
samples as rows, the filter model's constraint is that :math:`[A^\top; B]` has rank at most r, the feature model's that
:math:`[A^\top; B^\top]` has; F is convex in (A, B, Gamma). Write S for X (filter) or its transpose (feature), so that
both read alike. Each block takes the step that its own curvature allows,

.. math:: A^+ = A - \nabla_A F / L_A, \qquad B^+ = B - \nabla_B F / 2\xi = X,

and what follows is the projection in the metric of those steps: the r leading right singular vectors V of
:math:`[c A^{+\top}; S]` with :math:`c = \sqrt{L_A / 2\xi}`, then :math:`A = V V^\top A^+` and :math:`S V V^\top` for B.
With one step size for all, that of the steep block, the reconstruction would hardly move. The intercept and the
auxiliary coefficients, which no rank ties to the rest, step first, by Böhning's bound of their Hessian.

*Why the objective falls.* The step minimises a quadratic that touches F at the old point and lies above it. The old
point lies in the span of the old V. So any V that keeps as much of the new stack M as the old one would,
:math:`\|M V\|_F \ge \|M V_{old}\|_F`, gives no larger F: the projection need not be exact. A pass of subspace iteration
from the old V keeps no less. Nesterov's extrapolation of A and Gamma, which saves most of the steps, breaks the
argument: where F rises the plain step is taken instead and the momentum starts anew.

**Block coordinate descent** (``bcd``) cycles through the coefficients, W and H, with constraints of sign and an l1
penalty. The Hessian of F in W or in H is at most :math:`M \otimes I`, M of size r:

.. math:: M_W = 2\xi H^\top H + (L_X + 2\alpha)\, \beta\beta^\top, \qquad M_H = 2\xi W W^\top
    + (\text{feature: } L_1 + 2\alpha)\, \beta\beta^\top,

which is minimised exactly where nothing constrains it and atom by atom elsewhere. A number in place of M would let the
labels' curvature slow the reconstruction.

References
----------
Lee, Lyu and Yao, arXiv 2206.06774; D. Böhning, Multinomial logistic regression algorithm, 1992 (the Hessian's bound);
A. Cichocki and A.-H. Phan, 2009 (factors one atom at a time).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from lodim.linalg import randomised_svd, safe_cholesky
from lodim.validation import ConvergenceWarning, warn

Array = np.ndarray
Point = tuple[Array, Array, Array]  # A, Gamma, and the directions that the projection goes on from

_SMALL = 100  # sides up to which LAPACK takes the stack whole
_EXTRA = 10  # directions beside the r that the iteration carries
_NEGLIGIBLE = 1e-10  # of the labels' loss
_SWEEPS = 10  # over the atoms of a block, each time that it is visited


@dataclass(frozen=True)
class Problem:
    """Data and weights of the objective F."""

    X: Float[Array, "n p"]
    Y: Float[Array, "n kappa"]  # one-hot without the reference class
    Z: Float[Array, "n q1"]  # auxiliary covariates, then a constant
    weight: Float[Array, " n"]
    xi: float
    alpha: float
    l1: float
    is_filter: bool

    @cached_property
    def bound(self) -> float:
        """Of the eigenvalues of the Hessian of l in the logits."""
        return 0.25 if self.Y.shape[1] == 1 else 0.5

    @cached_property
    def steepness(self) -> float:
        """Largest curvature of the labels' loss in A: of the filtered data, or of a single logit."""
        if not self.is_filter:
            return self.bound * float(self.weight.max())
        # the sampled range gives the norm from below; two per cent are above it
        weighted = np.sqrt(self.weight)[:, None] * self.X
        return 1.02 * self.bound * float(randomised_svd(weighted, 1, n_passes=10).s[0]) ** 2

    @cached_property
    def free(self) -> Float[Array, " q1"]:
        """One for penalised auxiliary coefficients, zero for the intercept."""
        return np.append(np.ones(self.Z.shape[1] - 1), 0.0)

    @cached_property
    def squared_norm(self) -> float:
        """``||X||_F^2``."""
        return float(np.vdot(self.X, self.X))

    @cached_property
    def rounding(self) -> float:
        """To which F is known: it has differences of numbers as large as the weighted norm of X."""
        return 1e-14 * (self.xi if math.isfinite(self.xi) else 1.0) * self.squared_norm

    def is_unseen(self, size: float) -> bool:
        """Whether data of that norm count so little beside the labels that they only complete the atoms."""
        return self.xi * size**2 <= _NEGLIGIBLE * float(self.weight.sum())

    def label_loss(self, logits: Float[Array, "n kappa"]) -> tuple[float, Float[Array, "n kappa"]]:
        """Sum of the weighted losses, and its gradient in the logits."""
        largest = np.maximum(logits.max(1, keepdims=True), 0.0)
        terms = np.exp(logits - largest)
        total = np.exp(-largest) + terms.sum(1, keepdims=True)
        losses = (largest + np.log(total))[:, 0] - np.einsum("sc,sc->s", self.Y, logits)
        return float(self.weight @ losses), self.weight[:, None] * (terms / total - self.Y)

    def penalty(self, A: Array, Gamma: Array) -> float:
        """``alpha (||A||^2 + ||Gamma||^2)``, the intercept's row left out."""
        return self.alpha * float(np.vdot(A, A) + self.free @ (Gamma**2).sum(1))

    def read(self, H: Array, W: Array) -> Array:
        """What the labels' coefficients multiply: filtered data or codes."""
        return self.X @ W.T if self.is_filter else H

    def objective(self, at: Solution) -> float:
        """F at a factored point; the labels count nothing where ``xi`` is infinite."""
        residual = self.X - at.H @ at.W
        rebuilt = float(np.vdot(residual, residual))
        if math.isinf(self.xi):
            return rebuilt
        loss, _ = self.label_loss(self.read(at.H, at.W) @ at.beta + self.Z @ at.Gamma)
        A = at.W.T @ at.beta if self.is_filter else at.H @ at.beta
        return loss + self.penalty(A, at.Gamma) + self.xi * rebuilt + self.l1 * float(np.abs(at.H).sum())


@dataclass(frozen=True)
class Solution:
    """A factored point, the objective on the way to it, and whether that had settled."""

    H: Float[Array, "n r"]
    W: Float[Array, "r p"]
    beta: Float[Array, "r kappa"]
    Gamma: Float[Array, "q1 kappa"]
    trace: tuple[float, ...] = ()
    settled: bool = True


def with_labels(problem: Problem, at: Solution) -> Solution:
    """Minimise F over beta and Gamma: logistic regression, by L-BFGS in coordinates where Böhning's bound is one."""
    design = np.hstack([problem.read(at.H, at.W), problem.Z])
    r, n_classes = at.beta.shape
    penalty = np.diag(np.append(np.zeros(r), problem.alpha * problem.free))
    penalty[:r, :r] = problem.alpha * (at.W @ at.W.T if problem.is_filter else at.H.T @ at.H)
    hessian = problem.bound * (design.T * problem.weight) @ design + 2 * penalty
    root = np.asarray(safe_cholesky(hessian).factor)
    design = solve_triangular(root, design.T, lower=True).T
    penalty = solve_triangular(root, solve_triangular(root, penalty, lower=True).T, lower=True)

    def value(flat: Array) -> tuple[float, Array]:
        theta = flat.reshape(-1, n_classes)
        loss, residual = problem.label_loss(design @ theta)
        pull = penalty @ theta
        return loss + float(np.vdot(theta, pull)), (design.T @ residual + 2 * pull).ravel()

    start = root.T @ np.vstack([at.beta, at.Gamma])
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9 * math.sqrt(problem.weight.sum())}
    found: Any = minimize(value, start.ravel(), jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
    theta = solve_triangular(root.T, found.x.reshape(-1, n_classes))
    return replace(at, beta=theta[:r], Gamma=theta[r:])


def falling(
    step: Callable[[Any, Any, float], tuple[float, Any]],
    start: Any,
    max_iter: int,
    tol: float,
    rounding: float,
) -> tuple[Any, tuple[float, ...], bool]:
    """Repeat ``step(now, last, ahead) -> (F, next)`` with Nesterov's ``ahead``, plainly where F would rise.

    Returns the last point, the values of F, which do not rise, and whether the last fall was below ``tol`` of F, or
    below ``rounding``, to which F is known.
    """
    now = last = start
    momentum, value = 1.0, math.inf
    trace: list[float] = []
    while len(trace) < max_iter:
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = (momentum - 1) / following
        reached, point = step(now, last, ahead)
        if reached > value and ahead:
            following = 1.0
            reached, point = step(now, last, 0.0)
        if reached > value:
            return now, tuple(trace), reached - value <= 1e-9 * abs(value) + rounding
        settled = value - reached <= tol * abs(reached) + rounding
        last, now, momentum, value = now, point, following, reached
        trace.append(value)
        if settled:
            return now, tuple(trace), True
    return now, tuple(trace), False


# ------------------------------------------------------------------------------- low-rank projected gradient


def lpgd(problem: Problem, r: int, max_iter: int, tol: float, seed: int) -> Solution:
    """Low-rank projected gradient from A = 0, Gamma = 0; see the module's docstring."""
    X, Z = problem.X, problem.Z
    S = X if problem.is_filter else X.T
    rows, d = S.shape
    n_classes = problem.Y.shape[1]
    exact = min(rows, d) <= max(_SMALL, 2 * r)
    if exact and rows > d:
        S = np.asarray(np.linalg.qr(S, mode="r"))  # has the singular vectors of S, in few rows
    unseen = problem.is_unseen(math.sqrt(problem.squared_norm))
    curvature = problem.steepness + 2 * problem.alpha
    c = math.sqrt(curvature / (2 * problem.xi)) if not unseen else math.inf
    hessian = problem.bound * (Z.T * problem.weight) @ Z + 2 * problem.alpha * np.diag(problem.free)
    root = np.asarray(safe_cholesky(hessian).factor)

    def leading(A: Array, Q: Array) -> Array:
        """Right singular vectors of [c A^T; S], the r leading ones first; Q are those of the last stack."""
        if unseen:
            return np.linalg.svd(A, full_matrices=False)[0][:, :r]
        scaled = c * A
        if not exact:
            Q = np.linalg.qr(scaled @ (scaled.T @ Q) + S.T @ (S @ Q))[0]
            return Q @ np.linalg.svd(np.vstack([scaled.T @ Q, S @ Q]), full_matrices=False)[2].T
        return np.linalg.svd(np.vstack([scaled.T, S]), full_matrices=False)[2][:r].T

    def logits(A: Array, Gamma: Array) -> Array:
        return (X @ A if problem.is_filter else A) + Z @ Gamma

    def step(now: Point, last: Point, ahead: float) -> tuple[float, Point]:
        A, Gamma = (new + ahead * (new - old) for new, old in zip(now[:2], last[:2], strict=True))
        _, residual = problem.label_loss(logits(A, Gamma))
        slope = Z.T @ residual + 2 * problem.alpha * problem.free[:, None] * Gamma
        Gamma = Gamma - solve_triangular(root.T, solve_triangular(root, slope, lower=True))
        _, residual = problem.label_loss(logits(A, Gamma))
        slope = (X.T @ residual if problem.is_filter else residual) + 2 * problem.alpha * A
        A = A - slope / curvature
        Q = leading(A, now[2])
        V = Q[:, :r]
        A = V @ (V.T @ A)
        loss, _ = problem.label_loss(logits(A, Gamma))
        kept = S @ V
        rebuilt = problem.xi * (problem.squared_norm - float(np.vdot(kept, kept)))
        return loss + problem.penalty(A, Gamma) + rebuilt, (A, Gamma, Q)

    supervised = not math.isinf(problem.xi)
    n_start = min(r + _EXTRA, *S.shape) if supervised and not exact else r
    Q = randomised_svd(S, n_start, random_state=seed).Vt.T
    now = np.zeros((d, n_classes)), np.zeros((Z.shape[1], n_classes)), Q
    now, trace, settled = (
        falling(step, now, max_iter, tol, problem.rounding) if supervised else (now, (), True)
    )
    A, Gamma, Q = now
    V = Q[:, :r]
    if V.shape[1] < r:  # atoms that the labels left free reconstruct what the others do not
        rest = randomised_svd(S - (S @ V) @ V.T, r - V.shape[1], random_state=seed).Vt.T
        V = np.linalg.qr(np.hstack([V, rest]))[0]
    H, W = (X @ V, V.T) if problem.is_filter else (V, V.T @ X)
    return Solution(H, W, V.T @ A, Gamma, trace, settled)


# ------------------------------------------------------------------------------------ block coordinate descent


def descend_bound(
    U: Float[Array, "r m"],
    slope: Float[Array, "r m"],
    M: Float[Array, "r r"],
    *,
    nonneg: bool = False,
    l1: float = 0.0,
    in_ball: bool = False,
    sweeps: int = _SWEEPS,
) -> Float[Array, "r m"]:
    """U + D of a low ``<slope, D> + tr(D^T M D) / 2 + l1 |U + D|``, rows of a sign or of length at most 1."""
    if not (nonneg or l1 or in_ball):
        return U - np.linalg.pinv(M, hermitian=True) @ slope
    U, start = U.copy(), U
    live = np.flatnonzero(np.diag(M) > 1e-14 * np.diag(M).max())  # the rest change nothing
    for _ in range(sweeps):
        last = U.copy()
        for k in live:
            row = U[k] - (slope[k] + M[k] @ (U - start)) / M[k, k]
            size = np.maximum((row if nonneg else np.abs(row)) - l1 / M[k, k], 0.0)
            row = size if nonneg else np.copysign(size, row)
            U[k] = row / max(1.0, float(np.linalg.norm(row))) if in_ball else row
        if np.abs(U - last).max() <= 1e-10 * np.abs(U).max():
            break
    return U


def sparse_codes(
    X: Float[Array, "n p"], W: Float[Array, "r p"], *, nonneg: bool, l1: float
) -> Float[Array, "n r"]:
    """Codes of the least ``||X - H W||^2 + l1 |H|``."""
    pull, M = -2 * W @ X.T, 2 * W @ W.T
    U = descend_bound(np.zeros((len(W), len(X))), pull, M, nonneg=nonneg, l1=l1, sweeps=1000)
    further = descend_bound(U, pull + M @ U, M, nonneg=nonneg, l1=l1, sweeps=1)
    if np.abs(further - U).max() > 1e-8 * np.abs(U).max():
        warn(
            "codes still moved after 1000 sweeps, for atoms are nearly parallel: lower n_components",
            ConvergenceWarning,
        )
    return U.T


def code_step(problem: Problem, at: Solution, nonneg: bool) -> Array:
    """Codes of the feature model by one step of their bound, labels counting."""
    _, residual = problem.label_loss(at.H @ at.beta + problem.Z @ at.Gamma)
    pull = 2 * problem.alpha
    slope = 2 * problem.xi * at.W @ (at.H @ at.W - problem.X).T
    slope += at.beta @ (residual + pull * (at.H @ at.beta)).T
    M = 2 * problem.xi * at.W @ at.W.T + (problem.steepness + pull) * at.beta @ at.beta.T
    return descend_bound(at.H.T, slope, M, nonneg=nonneg, l1=problem.l1).T


def bcd(
    problem: Problem, r: int, nonneg: tuple[bool, bool], max_iter: int, tol: float, seed: int
) -> Solution:
    """Block coordinate descent from the singular vectors of X, or of their parts of the right sign."""
    X, xi = problem.X, problem.xi
    U, s, Vt = randomised_svd(X, r, random_state=seed)
    if any(nonneg):  # of u v^T and (-u)(-v)^T the one with more of it where both are positive
        parts = [np.linalg.norm(np.maximum(e * U, 0), axis=0) * np.linalg.norm(np.maximum(e * Vt, 0), axis=1)
                 for e in (1, -1)]  # fmt: skip
        sign = np.where(parts[0] >= parts[1], 1.0, -1.0)
        U, Vt = U * sign, Vt * sign[:, None]
    H, W = U * s, Vt
    W = np.maximum(W, 0) if nonneg[0] else W
    H = np.maximum(H, 0) if nonneg[1] else H
    supervised = not math.isinf(xi)
    zeros = (np.zeros((r, problem.Y.shape[1])), np.zeros((problem.Z.shape[1], problem.Y.shape[1])))
    at = unit_atoms(Solution(H, W, *zeros), problem.is_filter)

    def cycle(at: Solution, last: Solution, ahead: float) -> tuple[float, Solution]:
        W = at.W + ahead * (at.W - last.W)
        W = np.maximum(W, 0) if nonneg[0] else W
        if supervised:
            at = with_labels(problem, at)
        weight = xi if supervised else 1.0
        slope, M = 2 * weight * at.H.T @ (at.H @ W - X), 2 * weight * at.H.T @ at.H
        if supervised and problem.is_filter:
            _, residual = problem.label_loss(problem.read(at.H, W) @ at.beta + problem.Z @ at.Gamma)
            pull = 2 * problem.alpha
            slope += at.beta @ (X.T @ residual + pull * W.T @ at.beta).T
            M += (problem.steepness + pull) * at.beta @ at.beta.T
        W = descend_bound(W, slope, M, nonneg=nonneg[0], in_ball=problem.l1 > 0)
        at = unit_atoms(replace(at, W=W), problem.is_filter)
        if supervised and not problem.is_filter:
            H = code_step(problem, at, nonneg[1])
        else:
            weight = weight or 1.0  # xi = 0 leaves open how well the atoms rebuild X: as well as they can
            slope, M = 2 * weight * at.W @ (at.H @ at.W - X).T, 2 * weight * at.W @ at.W.T
            H = descend_bound(at.H.T, slope, M, nonneg=nonneg[1], l1=problem.l1).T
        at = replace(at, H=H)
        return problem.objective(at), at

    at, trace, settled = falling(cycle, at, max_iter, tol, problem.rounding)
    return replace(at, trace=trace, settled=settled)


def unit_atoms(at: Solution, is_filter: bool) -> Solution:
    """The same reconstruction and logits with atoms of length one; atoms that are zero stay."""
    length = np.linalg.norm(at.W, axis=1)
    length[length == 0] = 1.0
    beta = at.beta * length[:, None] if is_filter else at.beta / length[:, None]
    return replace(at, W=at.W / length[:, None], H=at.H * length, beta=beta)
