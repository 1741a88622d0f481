"""Linear regression in the l_p norm on a coreset, with a certificate of what the coreset cost.

``min_x ||A x - b||_p`` is a question about the column space of ``[A b]``: rows of that matrix are sampled, the small
problem is solved, and the answer is judged on all rows by duality. Every y with ``A^T y = 0`` gives, by Hoelder's
inequality with 1/p + 1/q = 1,

    ||A x - b||_p ||y||_q >= |<b - A x, y>| = |<b, y>|     for all x,    hence    OPT >= |<b, y>| / ||y||_q.

With r = b - A x at the coreset's solution the natural y is ``|r|^{p-1} sign r``, which at the optimum is orthogonal to
the columns and makes the bound an equality. Elsewhere it has to be made orthogonal: by projection, ``y - Q Q^T y``,
and by the step ``y - H Q (Q^T H Q)^{-1} Q^T y`` with ``H = diag(|r|^{p-2})``, which is Newton's in the dual and loses
only the second order. At p = 1 rows of high leverage would then leave [-1, 1] and spoil the bound, so a few
primal-dual Newton steps on all rows find y there
(:func:`lodim.geometry.sensitivity_sampling.newton.median_by_steps`), smoothing
less and less while it pays; that costs about half of what the full fit does. The best y is kept: each is a valid bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from lodim.geometry.sensitivity_sampling.basis import as_matrix, orthonormal_basis, weighted_gram, with_column
from lodim.geometry.sensitivity_sampling.distortion import Distortion, embedding_distortion
from lodim.geometry.sensitivity_sampling.lewis import check_p
from lodim.geometry.sensitivity_sampling.newton import median_by_steps, median_regression, minimize
from lodim.geometry.sensitivity_sampling.sampling import LpSampler, default_size
from lodim.validation import ConvergenceWarning, check_in_range, check_labels, check_matrix, warn

_MAX_PROGRAM = 3000  # rows up to which the l_1 problem goes to linear programming
_EXACT_FIT = 1e-13  # residuals over the size of the terms that they are left from
_ROUNDING = 1e-13  # of a column of unit length
_TYPICAL = 500  # rows that typical values are medians of
_LEVELS = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def solve(A: Float[Tensor, "m d"], b: Float[Tensor, " m"], p: float, n_counted: int | None = None) -> Tensor:
    """Shortest x that minimises ``||A x - b||_p``; for p < 1 a local minimum.

    Parameters
    ----------
    n_counted : int, optional
        Leading entries of x that count in its length: all, or all but the last (an intercept).

    Warns
    -----
    ConvergenceWarning
        Newton's method stopped early.
    """
    if not len(A):
        return A.new_zeros(A.shape[1])
    basis = orthonormal_basis(A)
    Q = basis.Q
    if not basis.rank:
        return A.new_zeros(A.shape[1])
    z = Q.T @ b
    z = z + Q.T @ (b - Q @ z)
    if p == 1:
        z = z + _median(Q, b - Q @ z)
    elif p != 2 and float((Q @ z - b).abs().max()) > _EXACT_FIT * float(b.abs().max()):
        found = minimize(Q, p, z[None], target=b)
        z = found.z[0]
        if found.decrement > 1e-5:
            warn(f"the l_{p:g} fit stopped with a decrement of {found.decrement:.2g}", ConvergenceWarning)
    return basis.coefficients(z, n_counted)


def _median(Q: Tensor, r: Tensor) -> Tensor:
    """Minimiser of ``||r - Q z||_1``: by linear programming for few rows, by steps for many or where that fails."""
    if len(r) <= _MAX_PROGRAM:
        try:
            return torch.from_numpy(median_regression(Q.cpu().numpy(), r.cpu().numpy())).to(Q.device)
        except RuntimeError:
            pass  # the steps solve the same problem, and the certificate judges either
    if not bool(r.any()):
        return Q.new_zeros(Q.shape[1])
    *_, (z, _) = median_by_steps(Q, r, _LEVELS)
    return z


def norm(r: Float[Tensor, " n"], p: float) -> float:
    """``||r||_p``, safe from overflow.

    Parameters
    ----------
    p : float
        ``inf`` for the largest entry.
    """
    largest = float(r.abs().max())
    if largest == 0 or math.isinf(p):
        return largest
    return largest * float(((r / largest).abs() ** p).sum()) ** (1 / p)


def _orthogonal(y: Tensor, Q: Tensor, h: Tensor | None) -> Tensor:
    """y made orthogonal to the columns of Q, moving row j in proportion to ``h_j`` (all alike when None)."""
    if h is not None:
        gram = weighted_gram(Q, h)
        gram.diagonal().add_(1e-12 * gram.diagonal().max())
        y = y - h * (Q @ torch.linalg.solve(gram, Q.T @ y))
    for _ in range(2):  # the second removes what rounding left
        y = y - Q @ (Q.T @ y)
    return y


def lower_bound(Q: Tensor, r: Tensor, p: float) -> float:
    """A number that no ``||A x - b||_p`` is below, from the residuals of one x.

    Parameters
    ----------
    Q : Tensor, shape (n, rank)
        Orthonormal basis of the columns of A.
    r : Tensor, shape (n,)
        Residuals ``b - A x`` of any x; the better x, the tighter the bound.
    p : float
        At least 1.

    Returns
    -------
    float
        NaN for p < 1, where duality does not hold.
    """
    if p < 1:
        return math.nan
    size = norm(r, p) / len(r) ** (1 / p)
    if size == 0 or not Q.shape[1]:
        return norm(r, p)
    if p == 1:
        return _median_bound(Q, r)
    r = r / size
    magnitude = r.abs()
    y, q = magnitude ** (p - 1) * r.sign(), p / (p - 1)
    curvature = magnitude.clamp(min=1e-6) ** (p - 2)
    return size * max(_bound(_orthogonal(y, Q, h), r, q) for h in (None, curvature))


def _bound(dual: Tensor, r: Tensor, q: float) -> float:
    """``|<r, y>| / ||y||_q``, zero for y = 0."""
    size = norm(dual, q)
    return abs(float(r @ dual)) / size if size else 0.0


def _median_bound(Q: Tensor, r: Tensor) -> float:
    """The bound at p = 1, smoothing less and less while that still closes a tenth of the gap."""
    best, objective = 0.0, float(r.abs().sum())
    for _, dual in median_by_steps(Q, r, _LEVELS):
        found = _bound(_orthogonal(dual, Q, None), r, math.inf)
        gained, best = found - best, max(best, found)
        if 0 <= gained < 0.1 * (objective - best):
            break
    return best


@dataclass(frozen=True)
class _Design:
    """What is fitted: ``[X - centre, 1]`` and ``y - centre_b`` with an intercept, X and y without.

    Attributes
    ----------
    A : Tensor, shape (n, n_features + 1) or (n, n_features)
    largest : Tensor, shape (n_features + 1,) or (n_features,)
        Largest entry of every column of A.
    """

    A: Tensor
    b: Float[Tensor, " n"]
    centre: Float[Tensor, " n_features"]
    centre_b: float
    largest: Tensor


def _design(X: Tensor, y: Tensor, fit_intercept: bool) -> _Design:
    """Take typical values off, which the intercept gives back: columns far from zero would be nearly parallel."""
    centre, centre_b = X.new_zeros(X.shape[1]), 0.0
    if fit_intercept:
        few = slice(None, None, max(1, len(X) // _TYPICAL))
        centre, centre_b = X[few].median(0).values, float(y[few].median())
        A = X.new_ones(len(X), X.shape[1] + 1)
        torch.sub(X, centre, out=A[:, :-1])
        X, y = A, y - centre_b
    low, high = torch.aminmax(X, dim=0)
    return _Design(X, y, centre, centre_b, torch.maximum(high, -low))


@dataclass(eq=False, repr=False)
class LpRegression(RegressorMixin, BaseEstimator):
    """Linear regression in the l_p norm, solved on few weighted rows, with a bound on what that cost.

    Parameters
    ----------
    p : float
        1 is robust (median) regression, 2 least squares, larger p follow the largest residuals. Below 1 the problem is
        not convex: a local minimum is found, and there is no certificate.
    n_rows : int, optional
        Rows of the coreset, in expectation; all where X has no more. ``20 r log(r + 1)`` when None, r the rank of X
        with the intercept, which is the least to give (unless ``tol`` makes more of them).
    tol : float, optional
        Double the coreset until ``gap_ <= tol`` (or all rows are used).
    rule : str
        How rows are sampled, see :class:`LpSampler`.
    fit_intercept : bool
    random_state : int, Generator or None

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
        The shortest of many equally good solutions (dependent columns); the intercept does not count.
    intercept_ : float
    objective_ : float
        ``||X coef + intercept - y||_p`` over *all* rows.
    lower_bound_ : float
        No coefficients do better than this (duality); NaN for p < 1.
    gap_ : float
        ``objective_ / lower_bound_ - 1``: the answer is optimal to within this factor.
    coreset_idx_ : ndarray of int64, shape (m,)
    coreset_weight_ : ndarray, shape (m,)
        How often each counts in ``||.||_p^p``.
    n_refits_ : int
        Doublings that ``tol`` asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.geometry import LpRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((20_000, 5))
    >>> y = X @ [1.0, 2.0, 3.0, 4.0, 5.0] + rng.standard_t(2, 20_000)
    >>> model = LpRegression(p=1, n_rows=1000, random_state=0).fit(X, y)
    >>> bool(model.gap_ < 0.02), model.coef_.round(0).tolist()
    (True, [1.0, 2.0, 3.0, 4.0, 5.0])
    """

    p: Any = 1.0
    n_rows: Any = None
    tol: Any = None
    rule: Any = "lewis"
    fit_intercept: Any = True
    random_state: Any = None

    def fit(self, X: Any, y: Any) -> LpRegression:
        """Sample rows of ``[X 1 y]``, solve on them, certify on all.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        y : array-like or Tensor, shape (n_samples,)

        Raises
        ------
        ValueError
            Bad input or parameters, or fewer rows asked for than there are coefficients to find.

        Warns
        -----
        UserWarning
            p < 1; a coreset that leaves coefficients open; or columns so nearly dependent, or so far from zero, that
            rounding decides.
        """
        p = check_p(self.p)
        if self.tol is not None:
            check_in_range(self.tol, "tol", low=0.0)
        if p < 1:
            warn(
                f"l_p regression is not convex for p={p:g} < 1: this is a local minimum, without a certificate"
            )
        data, target = self._checked(X, y)
        design = _design(data, target, self.fit_intercept)
        whole = orthonormal_basis(design.A)
        if whole.dropped > _ROUNDING:
            warn(
                f"some columns differ from combinations of the others by only {whole.dropped:.2g} of their length, too "
                "little for double precision: they count as dependent. Subtract what they have in common"
            )
        if p < 1 and self.tol is not None:
            raise ValueError("tol needs the certificate, which p < 1 does not have: give n_rows")
        if self.n_rows is not None and self.tol is None:
            check_in_range(self.n_rows, "n_rows", low=1, integer=True)
            if self.n_rows < whole.rank:
                raise ValueError(
                    f"n_rows must be at least {whole.rank}, the coefficients to find "
                    f"({'with' if self.fit_intercept else 'without'} an intercept), got {self.n_rows}: give some "
                    f"{default_size(whole.rank):,}, which n_rows=None does"
                )
        sampler = LpSampler(p=p, n_rows=self.n_rows, rule=self.rule, random_state=self.random_state)
        sampler._fit_orthonormal(with_column(whole, design.b))
        self.n_refits_ = 0
        while True:
            idx, weight = sampler.sample()
            self._solve(design, idx, weight, whole.Q, p)
            n = len(data)
            if self.tol is None or self.gap_ <= self.tol or len(idx) == n or sampler.n_rows_ >= n:
                break
            self.n_refits_ += 1
            sampler._resize(min(n, 2 * sampler.n_rows_))
        spanned = int(torch.linalg.matrix_rank(whole.Q[idx])) if whole.rank and len(idx) else 0
        if spanned < whole.rank:
            warn(
                f"the {len(idx)} rows drawn span {spanned} of {whole.rank} dimensions, so that other coefficients fit "
                f"them as well: raise n_rows (to some {default_size(whole.rank):,})"
            )
        self._warn_of_rounding(design, p)
        return self

    def _checked(self, X: Any, y: Any) -> tuple[Tensor, Tensor]:
        if isinstance(X, Tensor) and X.device.type != "cpu":
            A = as_matrix(X, "X")
            self.n_features_in_ = A.shape[1]
        else:
            data = check_matrix(X)
            validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
            A = as_matrix(data)
        if y is None:
            raise ValueError("LpRegression requires y to be passed, but the target y is None")
        target = check_labels(y, len(A))
        if getattr(y, "ndim", 1) == 2:
            message = "A column-vector y was passed when a 1d array was expected; use y.ravel()"
            warn(message, DataConversionWarning, stacklevel=4)
        return A, as_matrix(target.reshape(-1, 1), "y")[:, 0].to(A.device)

    def _solve(self, design: _Design, idx: Tensor, weight: Tensor, Q: Tensor, p: float) -> None:
        A, b = design.A, design.b
        factor = weight ** (1 / p)
        x = solve(A[idx] * factor[:, None], b[idx] * factor, p, self.n_features_in_)
        r = b - A @ x
        self.objective_ = norm(r, p)
        self.lower_bound_ = lower_bound(Q, r, p)
        terms = norm(b, p) + len(b) ** (1 / p) * float(design.largest @ x.abs())
        if self.objective_ <= _EXACT_FIT * terms:
            self.gap_ = 0.0  # an exact fit: both numbers are rounding errors
        else:
            self.gap_ = self.objective_ / self.lower_bound_ - 1 if self.lower_bound_ else math.inf
        n = self.n_features_in_
        self.coef_ = x[:n].cpu().numpy()
        self.intercept_ = float(x[n] + design.centre_b - design.centre @ x[:n]) if self.fit_intercept else 0.0
        self.coreset_idx_, self.coreset_weight_ = idx.cpu().numpy(), weight.cpu().numpy()

    def _warn_of_rounding(self, design: _Design, p: float) -> None:
        """Say so where the terms of a prediction are so large that their rounding shows beside residuals and target."""
        largest = (design.largest[: len(self.coef_)] + design.centre.abs()).cpu().numpy()
        rounding = np.finfo(float).eps * float(largest @ np.abs(self.coef_) + abs(self.intercept_))
        n = len(design.b)
        residual, spread = (value / n ** (1 / p) for value in (self.objective_, norm(design.b, p)))
        own = 8 * np.finfo(float).eps * (spread + abs(design.centre_b))  # the target's, which nothing betters
        if rounding > max(0.01 * residual, 1e-9 * spread, own):
            warn(
                f"predictions are sums of terms so large that they are rounded by {rounding:.2g}, which shows beside "
                f"residuals of {residual:.2g}: subtract a typical value from each column before fitting"
            )

    def predict(self, X: Any) -> Float[np.ndarray, " n_samples"]:
        """``X coef + intercept``.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        """
        check_is_fitted(self)
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, reset=False, skip_check_array=True)
        return data @ self.coef_ + self.intercept_

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2 of the predictions.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        y : array-like or Tensor, shape (n_samples,)
        sample_weight : array-like, shape (n_samples,), optional
        """
        predicted = self.predict(X)
        target = check_labels(y, len(predicted))
        if sample_weight is not None:
            sample_weight = check_labels(sample_weight, len(predicted), name="sample_weight")
        return float(r2_score(target, predicted, sample_weight=sample_weight))

    def distortion(self, X: Any, y: Any, **options: Any) -> Distortion:
        """How far the coreset is from ``[X 1 y]`` in every direction tried, the solution's among them.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        y : array-like or Tensor, shape (n_samples,)
            The data of ``fit``.
        **options
            Of :func:`embedding_distortion`.
        """
        check_is_fitted(self)
        data = as_matrix(X, "X")
        target = as_matrix(check_labels(y, len(data)).reshape(-1, 1), "y")[:, 0].to(data.device)
        design = _design(data, target, self.fit_intercept)
        direction = [*self.coef_, -1.0]
        if self.fit_intercept:
            moved = float(design.centre.cpu().numpy() @ self.coef_ - design.centre_b)
            direction.insert(-1, self.intercept_ + moved)
        return embedding_distortion(
            torch.cat((design.A, design.b[:, None]), 1),
            self.coreset_idx_,
            self.coreset_weight_,
            self.p,
            directions=[direction],
            **options,
        )
