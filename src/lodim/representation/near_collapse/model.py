"""The model and its solver, the plain model's minimiser, the response to a perturbation and its spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve, qr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.linalg import conjugate_gradient
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator
from lodim.representation.collapse import ClassGeometry, class_geometry
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_in_range,
    check_labels,
    check_matrix,
    checked,
    warn,
)

Features = Float[np.ndarray, "N d"]
Weights = Float[np.ndarray, "K d"]
Targets = Float[np.ndarray, "N K"]
Number = float | int | np.number

SOLVERS = ("alternating", "anderson")
_MEMORY = 10  # steps that Anderson's extrapolation looks back on
_LARGEST = 1e6  # of features, beside targets of 0 and 1
_SIZE = 4000  # rows of a response matrix, which is then 128 MB


# ---- the objective


@dataclass(frozen=True, eq=False)
class Objective:
    """N f without its link to H0, as functions of H; rows may be turned, those of H and Y alike."""

    Y: Targets
    n: float  # rows a class
    lam_w: float
    lam_h: float

    def classifier(self, H: Features) -> Weights:
        """W*(H), through the smaller of H'H and H H'."""
        ridge = self.n * self.lam_w
        if H.shape[0] < H.shape[1]:
            return _solve(H @ H.T, ridge, self.Y).T @ H
        return _solve(H.T @ H, ridge, H.T @ self.Y).T

    def loss(self, H: Features, W: Weights) -> float:
        """N f for beta = 0."""
        fit = np.square(H @ W.T - self.Y).sum()
        return float(fit + self.n * self.lam_w * np.square(W).sum() + self.lam_h * np.square(H).sum()) / 2

    def gradient(self, H: Features, W: Weights) -> Features:
        """N grad L(H), given W*(H), at which the derivative by W is zero."""
        return (H @ W.T - self.Y) @ W + self.lam_h * H

    def features(self, W: Weights, H0: Features, beta: float) -> Features:
        """The best H, by an inverse of K rows."""
        A, c = self.Y @ W + beta * H0, self.lam_h + beta
        return (A - (A @ W.T) @ np.linalg.solve(W @ W.T + c * np.eye(len(W)), W)) / c

    def curvature(self, H: Features, W: Weights) -> Callable[[Features], Features]:
        """V -> N hess L(H)[V], given W*(H), in O(N d K + d^2 K)."""
        E = H @ W.T - self.Y
        factor = _factor(H.T @ H, self.n * self.lam_w)

        def product(V: Features) -> Features:
            dW = -cho_solve(factor, V.T @ E + H.T @ (V @ W.T)).T
            return (V @ W.T + H @ dW.T) @ W + E @ dW + self.lam_h * V

        return product


def _factor(gram: Float[np.ndarray, "p p"], ridge: float) -> Any:
    try:
        return cho_factor(gram + ridge * np.eye(len(gram)), lower=True)
    except LinAlgError as error:
        raise ValueError(
            f"lam_w is lost in rounding beside features of mean square {np.trace(gram):.2g}: raise it, or scale X down"
        ) from error


def _solve(
    gram: Float[np.ndarray, "p p"], ridge: float, right: Float[np.ndarray, "p q"]
) -> Float[np.ndarray, "p q"]:
    return cho_solve(_factor(gram, ridge), right)


def compress(H0: Features, Y: Targets) -> tuple[Float[np.ndarray, "p d"], Float[np.ndarray, "p K"]]:
    """C0 and Y_c of at most K + d rows, with H0 = U C0 and Y = U Y_c for some U with orthonormal columns."""
    R = qr(np.c_[Y, H0], mode="r", check_finite=False)[0][: sum(H0.shape[1:] + Y.shape[1:])]
    return R[:, Y.shape[1] :], R[:, : Y.shape[1]]


def solve(
    problem: Objective, H0: Features, beta: float, solver: str, tol: float, max_iter: int
) -> tuple[Weights, list[float], bool]:
    """W, of which H is ``problem.features(W, H0, beta)``; N f at the start and after each round; whether it settled."""

    def value(H: Features, W: Weights) -> float:
        return problem.loss(H, W) + beta / 2 * float(np.square(H - H0).sum())

    H, W = H0, problem.classifier(H0)
    values, moves, images = [value(H, W)], list[np.ndarray](), list[np.ndarray]()
    for _ in range(max_iter):
        image = problem.features(W, H0, beta)
        move = image - H
        settled = bool(np.linalg.norm(move) <= tol * np.linalg.norm(image))
        moves, images = [*moves[-_MEMORY:], move.ravel()], [*images[-_MEMORY:], image.ravel()]
        H = image
        if solver == "anderson" and len(moves) > 1 and not settled:
            steps = np.diff(moves, axis=0).T
            share = np.linalg.lstsq(steps, moves[-1], rcond=None)[0]
            H = image - (np.diff(images, axis=0).T @ share).reshape(image.shape)
        W = problem.classifier(H)
        if H is not image and value(H, W) > values[-1]:  # extrapolated too far: an alternation cannot be
            H, moves, images = image, [], []
            W = problem.classifier(H)
        values.append(value(H, W))
        if settled:
            return W, values, True
    return W, values, False


# ---- what is asked of arguments


def check_lambdas(lam_w: Any, lam_h: Any, beta: Any = 1.0) -> None:
    """Refuse penalties that are none, or that leave nothing to be computed."""
    check_in_range(lam_h, "lam_h", low=0.0, high=1e6)
    for value, name, high in ((lam_w, "lam_w", 1e6), (beta, "beta", 1e12)):
        if not check_in_range(value, name, low=0.0, high=high) > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def read_features(X: Any, y: Any, name: str = "X") -> tuple[Features, np.ndarray, Targets, ClassGeometry]:
    """Features, classes, one-hot labels and the geometry of classes, of which the means must differ."""
    H = check_matrix(X, name=name, min_rows=2)
    if y is None:
        raise ValueError("this requires y to be passed, but the target y is None: give a label for each row")
    if np.abs(H).max() > _LARGEST:
        raise ValueError(
            f"{name} has entries up to {np.abs(H).max():.2g}, and targets are 0 and 1: scale it to a mean square near 1"
        )
    labels = check_labels(y, len(H))
    if labels.dtype.kind == "f" and (labels != np.round(labels)).any():
        raise ValueError("Unknown label type: y must hold classes, got numbers that are not whole")
    geometry = class_geometry(H, labels)
    spread = math.sqrt(np.square(H).mean())
    if not geometry.trace_between > (1e-14 * spread) ** 2:
        raise ValueError(f"all class means of {name} are one: variability has nothing to be measured by")
    return H, geometry.classes, (labels[:, None] == geometry.classes).astype(float), geometry


# ---- the plain model


def to_ufm_lambdas(
    lam_w: Number, lam_h: Number, n_classes: int | np.integer, n_per_class: int | np.integer
) -> tuple[float, float]:
    """Penalties as those of unconstrained-features models with one linear layer, which are lam / 2 times squared norms.

    This model divides by K and by N = K n: lam_w / K and lam_h / N, in this order.
    """
    check_lambdas(lam_w, lam_h)
    check_counts(n_classes=n_classes, n_per_class=n_per_class)
    return float(lam_w) / int(n_classes), float(lam_h) / (int(n_classes) * int(n_per_class))


@dataclass(frozen=True)
class CollapsedMinimizer(Result):
    """A minimiser of the model without its link to H0 (beta = 0).

    Attributes
    ----------
    features : ndarray, shape (n_classes * n_per_class, n_features)
    labels : ndarray, shape (n_classes * n_per_class,)
    classifier : ndarray, shape (n_classes, n_features)
    loss : float
        f there.
    """

    features: np.ndarray
    labels: np.ndarray
    classifier: np.ndarray
    loss: float

    def __str__(self) -> str:
        length = float(np.linalg.norm(self.features[0]))
        return f"{len(self.classifier)} classes, orthogonal points at {length:.4g} from zero; f = {self.loss:.4g}"


@checked
def collapsed_minimizer(
    n_classes: int | np.integer,
    n_per_class: int | np.integer,
    n_features: int | np.integer,
    lam_w: Number,
    lam_h: Number,
    *,
    random_state: RandomState = 0,
) -> CollapsedMinimizer:
    r"""Collapsed features: each class one point, the points orthogonal, in directions drawn at random.

    With :math:`c = \sqrt{\lambda_H \lambda_W} < 1` squared lengths are :math:`\rho = (1 - c) \sqrt{\lambda_W /
    \lambda_H}`, and the classifier is :math:`\sqrt{\lambda_H / \lambda_W}` times the class means (section 2).

    Raises
    ------
    ValueError
        ``lam_h * lam_w`` of 1 or more, where all is zero; fewer features than classes.
    """
    K, n, d = _check_collapse(n_classes, n_per_class, n_features, lam_w, lam_h)
    c, ratio = math.sqrt(lam_h * lam_w), math.sqrt(lam_h / lam_w)
    frame = np.linalg.qr(as_generator(random_state).standard_normal((d, K)))[0].T
    means = math.sqrt((1 - c) / ratio) * frame
    labels = np.repeat(np.arange(K), n)
    problem = Objective(np.eye(K)[labels], float(n), float(lam_w), float(lam_h))
    H, W = means[labels], ratio * means
    return CollapsedMinimizer(H, labels, W, problem.loss(H, W) / len(H))


def _check_collapse(K: Any, n: Any, d: Any, lam_w: Any, lam_h: Any) -> tuple[int, int, int]:
    check_lambdas(lam_w, lam_h)
    check_counts(n_classes=K, n_per_class=n, n_features=d)
    check_in_range(K, "n_classes", low=2)
    if d < K:
        raise ValueError(f"n_features must be at least n_classes for an orthogonal frame, got {d} and {K}")
    if not 0 < lam_h * lam_w < 1:
        raise ValueError(
            f"lam_h * lam_w must be between 0 and 1, got {lam_h * lam_w:.4g}: 0 has no minimum, from 1 on it is at zero"
        )
    return int(K), int(n), int(d)


# ---- spectrum of the response


@dataclass(frozen=True)
class BlockSpectrum(Result):
    """Singular values of the blocks of F, the response for large beta, within classes and between them.

    Attributes
    ----------
    intra : ndarray, shape (n_classes, n_per_class * n_features)
        Of each block within a class, falling.
    inter : ndarray, shape (n_pairs, 2)
        The largest two of each block between two classes k < l.
    """

    intra: np.ndarray
    inter: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row for each class: its largest and smallest singular value."""
        return pd.DataFrame({"largest": self.intra.max(1), "smallest": self.intra.min(1)})

    def __str__(self) -> str:
        within = f"within classes {self.intra.min():.6g} to {self.intra.max():.6g}"
        between = f"between classes at most {self.inter[:, 0].max():.3g} (next {self.inter[:, 1].max():.2g})"
        return f"response for large beta: {within}, {between}"

    def plot(self, ax: Any = None) -> Any:
        """Singular values within each class, in falling order.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        for values in self.intra:
            ax.plot(np.arange(1, len(values) + 1), values, color=COLORS[0], alpha=0.5, linewidth=1)
        ax.set(xlabel="number", ylabel="singular value", title="What is left of deviations within a class")
        return ax


@checked
def collapsed_spectrum(
    n_classes: int | np.integer,
    n_per_class: int | np.integer,
    n_features: int | np.integer,
    lam_w: Number,
    lam_h: Number,
    beta: Number,
) -> BlockSpectrum:
    """Blocks of F where H0 has collapsed (theorem 4.2, and the table of the module), without forming any.

    Raises
    ------
    ValueError
        As :func:`collapsed_minimizer`; beta so small that a value of F is not positive.
    """
    K, n, d = _check_collapse(n_classes, n_per_class, n_features, lam_w, lam_h)
    check_lambdas(lam_w, lam_h, beta)
    cross = 2 * lam_h * (1 - math.sqrt(lam_h * lam_w)) / beta
    levels = (1.0, 1 - 2 * cross, 1 - cross, 1 - lam_h / beta, 1 - math.sqrt(lam_h / lam_w) / beta)
    if min(levels) <= 0:
        raise ValueError(f"beta={beta} is not large beside {beta * (1 - min(levels)):.4g}: F is no response")
    times = (d - K, 1, K - 1, (n - 1) * (d - K), (n - 1) * K)
    intra = np.sort(np.repeat(levels, times))[::-1]
    return BlockSpectrum(np.tile(intra, (K, 1)), np.tile([cross, 0.0], (K * (K - 1) // 2, 1)))


# ---- the estimator


class NearCollapseModel(BaseEstimator):
    """Features that collapse as far as their link to given ones lets them.

    Parameters
    ----------
    lam_w, lam_h : float
        Penalties of the classifier, positive, and of the features; see the module for their scaling, and
        :func:`to_ufm_lambdas` for another.
    beta : float
        How strongly features are held to those given; 1 / beta says how much a layer can change.
    solver : {"alternating", "anderson"}
        Alternations between both exact minima, in which f never rises; or these extrapolated, which takes far fewer
        where beta is below 10.
    tol : float
        Relative change of the features at which rounds end.
    max_iter : int
        Largest number of rounds.

    Attributes
    ----------
    features_ : ndarray, shape (n_samples, n_features)
    classifier_ : ndarray, shape (n_classes, n_features)
    classes_ : ndarray, shape (n_classes,)
    nc1_before_, nc1_after_ : float
        tr(Sigma_W) / tr(Sigma_B) of the given and of the optimised features.
    objective_ : ndarray, shape (n_iter + 1,)
        f at the start and after every round.
    n_iter_ : int
    converged_ : bool

    References
    ----------
    T. Tirer, H. Huang, J. Niles-Weed, arXiv 2210.16658.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.arange(60) % 3
    >>> H0 = np.eye(3)[y] + 0.3 * np.random.default_rng(0).normal(size=(60, 3))
    >>> model = NearCollapseModel(beta=5.0).fit(H0, y)
    >>> bool(model.nc1_after_ < model.nc1_before_)
    True
    """

    def __init__(
        self,
        lam_w: Any = 0.05,
        lam_h: Any = 0.01,
        beta: Any = 10.0,
        solver: Any = "alternating",
        tol: Any = 1e-12,
        max_iter: Any = 5000,
    ):
        self.lam_w = lam_w
        self.lam_h = lam_h
        self.beta = beta
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def fit(self, X: Any, y: Any = None) -> NearCollapseModel:
        """Optimise features, starting at the given ones.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
            Features H0 of a shallower layer.
        y : array-like, shape (n_samples,)
            Classes.

        Raises
        ------
        ValueError
            Bad input, one class, class means that are all one.

        Warns
        -----
        ConvergenceWarning
            ``max_iter`` rounds were not enough.
        UserWarning
            Classes of unequal size, of which the theorems say nothing.
        """
        check_lambdas(self.lam_w, self.lam_h, self.beta)
        check_choice(self.solver, SOLVERS, "solver")
        check_in_range(self.tol, "tol", low=0.0)
        check_in_range(self.max_iter, "max_iter", low=1, integer=True)
        H0, self.classes_, Y, before = read_features(X, y)
        validate_data(self, X if hasattr(X, "columns") else H0, skip_check_array=True)
        K = len(self.classes_)
        if len(set(before.counts)) > 1:
            warn(
                f"classes have {before.counts.min()} to {before.counts.max()} rows: the theorems are of equal ones"
            )
        penalties = float(self.lam_w), float(self.lam_h)
        C0, Yc = compress(H0, Y)
        problem, whole = (Objective(targets, len(H0) / K, *penalties) for targets in (Yc, Y))
        W, values, self.converged_ = solve(
            problem, C0, float(self.beta), self.solver, float(self.tol), int(self.max_iter)
        )
        self.features_ = whole.features(W, H0, float(self.beta))
        self.classifier_ = whole.classifier(self.features_)
        self.objective_ = np.array(values) / len(H0)
        self.n_iter_ = len(values) - 1
        if not self.converged_:
            warn(
                f"features still moved by more than {self.tol:.2g} after {self.max_iter} rounds; raise max_iter, "
                'or tol, or take solver="anderson"',
                ConvergenceWarning,
            )
        self.nc1_before_ = before.nc1_trace()
        self.nc1_after_ = class_geometry(self.features_, Y.argmax(1)).nc1_trace()
        self._problem, self._beta = whole, float(self.beta)
        return self

    def linear_response(self, dH0: Any, *, exact: bool = True, tol: Number = 1e-10) -> Features:
        """How the features change with those given, to first order (theorem 4.1), by conjugate gradients.

        Parameters
        ----------
        dH0 : array-like, shape (n_samples, n_features)
            A small change of the given features; the answer is linear in it.
        exact : bool
            Or the form for large beta, ``F dH0``, which needs no solver and is off by O(1 / beta^2).
        tol : float
            Relative residual.

        Raises
        ------
        ValueError
            Another shape than the features'.

        Warns
        -----
        ConvergenceWarning
            The tolerance was not met, as happens where the model has not converged.
        """
        check_is_fitted(self)
        V = check_matrix(dH0, name="dH0")
        if V.shape != self.features_.shape:
            raise ValueError(f"dH0 must have the features' shape {self.features_.shape}, got {V.shape}")
        beta, hessian = self._beta, self._problem.curvature(self.features_, self.classifier_)
        if not exact:
            return V - hessian(V) / beta

        def operator(v: Any) -> Any:
            U = v.reshape(V.shape)
            return (hessian(U) / beta + U).ravel()

        x: Any = conjugate_gradient(operator, V.ravel(), tol=float(tol)).x
        return x.reshape(V.shape)

    def response_matrix(self, *, exact: bool = True) -> Float[np.ndarray, "m m"]:
        """The response as a matrix of ``n_samples * n_features`` rows, entry (i, a) of the features at ``i d + a``.

        Parameters
        ----------
        exact : bool
            Or the form for large beta, the paper's F.

        Raises
        ------
        ValueError
            More than 4000 rows, or 128 MB.
        """
        check_is_fitted(self)
        shape = self.features_.shape
        size = shape[0] * shape[1]
        if size > _SIZE:
            raise ValueError(
                f"the matrix would have {size} x {size} entries ({8e-9 * size**2:.3g} GB), of at most {_SIZE} rows; "
                "linear_response needs none"
            )
        beta, hessian = self._beta, self._problem.curvature(self.features_, self.classifier_)
        F = np.empty((size, size))
        for at, row in enumerate(np.eye(size)):
            F[:, at] = hessian(row.reshape(shape)).ravel() / beta
        F = (F + F.T) / 2
        return np.linalg.inv(np.eye(size) + F) if exact else np.eye(size) - F

    def block_spectrum(self) -> BlockSpectrum:
        """Singular values of F's blocks within and between classes, F being the response for large beta (theorem 4.2).

        Raises
        ------
        ValueError
            Classes of unequal size, or as :meth:`response_matrix`.
        """
        check_is_fitted(self)
        counts = self._problem.Y.sum(0).astype(int)
        if len(set(counts)) > 1:
            raise ValueError(
                f"theorem 4.2 is of classes of equal size, got {counts.min()} to {counts.max()} rows"
            )
        K, d = self.classifier_.shape
        F = self.response_matrix(exact=False).reshape(*self.features_.shape * 2)
        rows = [np.flatnonzero(self._problem.Y[:, k]) for k in range(K)]

        def values(k: int, l: int) -> np.ndarray:
            return np.linalg.svd(F[rows[k]][:, :, rows[l]].reshape(counts[k] * d, -1), compute_uv=False)

        inter = [np.append(values(k, l), 0.0)[:2] for k in range(K) for l in range(k + 1, K)]
        return BlockSpectrum(np.array([values(k, k) for k in range(K)]), np.array(inter))
