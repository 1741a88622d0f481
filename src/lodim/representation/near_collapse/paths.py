"""Features along the central path, through layer upon layer, and beta from the features of two layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp
from scipy.linalg import qr

from lodim.plots import COLORS, new_axes
from lodim.representation.collapse import ClassGeometry, class_geometry
from lodim.representation.near_collapse.model import (
    SOLVERS,
    Number,
    Objective,
    check_lambdas,
    compress,
    read_features,
    solve,
)
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_matrix,
    check_numbers,
    checked,
    warn,
)

_TOL, _ROUNDS = 1e-12, 5000  # of every layer's solver
_RTOL, _ATOL = 1e-8, 1e-10  # of the flow, the second beside the features' root mean square
_LEAST_SHARE = 0.5  # of what a layer does that a beta must account for, and of deviations that it must keep
_SHUFFLES = 19  # of rows within classes, none of which may be as like


@dataclass(frozen=True)
class CollapsePath(Result):
    """Variability of features within and between classes, along the central path or through layers.

    Attributes
    ----------
    t : ndarray, shape (n_steps,)
        Time; of layers their number over beta, which it stands for where beta is large.
    nc1_trace : ndarray, shape (n_steps,)
        trace_within / trace_between.
    nc1 : ndarray, shape (n_steps,)
        tr(Sigma_W pinv(Sigma_B)) / K.
    trace_within, trace_between : ndarray, shape (n_steps,)
    loss : ndarray, shape (n_steps,)
        L(H), without the link to other features.
    lam_h : float
    features : ndarray, shape (n_samples, n_features)
        The last ones.
    beta : float or None
        Of layers; None on the central path.
    converged : bool
        Whether every layer's solver was done.
    """

    t: np.ndarray
    nc1_trace: np.ndarray
    nc1: np.ndarray
    trace_within: np.ndarray
    trace_between: np.ndarray
    loss: np.ndarray
    lam_h: float
    features: np.ndarray
    beta: float | None = None
    converged: bool = True

    @property
    def scaled_within(self) -> np.ndarray:
        """exp(2 lam_h t) trace_within, which falls on the central path (theorem 3.1)."""
        return np.exp(2 * self.lam_h * self.t) * self.trace_within

    @property
    def scaled_between(self) -> np.ndarray:
        """exp(2 lam_h t) trace_between, which rises on the central path (theorem 3.1)."""
        return np.exp(2 * self.lam_h * self.t) * self.trace_between

    def to_frame(self) -> pd.DataFrame:
        """One row for each time, or layer from 0."""
        names = ("t", "nc1_trace", "nc1", "trace_within", "trace_between", "loss")
        frame = pd.DataFrame({name: getattr(self, name) for name in names})
        return frame if self.beta is None else frame.rename_axis("layer")

    def __str__(self) -> str:
        where = (
            f"t = {self.t[0]:.4g} to {self.t[-1]:.4g}"
            if self.beta is None
            else f"{len(self.t) - 1} layers, beta = {self.beta:.4g}"
        )
        ends = [
            f"{values[0]:.4g} -> {values[-1]:.4g}"
            for values in (self.nc1_trace, self.trace_within, self.trace_between)
        ]
        return f"{where}: NC1 (traces) {ends[0]}, within {ends[1]}, between {ends[2]}"

    def plot(self, ax: Any = None) -> Any:
        """NC1 by traces over time, or over layers.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        layers = self.beta is not None
        ax.plot(
            np.arange(len(self.t)) if layers else self.t,
            self.nc1_trace,
            "o-" if layers else "-",
            color=COLORS[0],
        )
        scale = "log" if self.nc1_trace.max() > 10 * self.nc1_trace.min() else "linear"
        ax.set(xlabel="layer" if layers else "t", ylabel="variability within / between classes", yscale=scale)
        if layers:
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_title("Through layers" if layers else "Along the central path")
        return ax


def _path(steps: Sequence[tuple[float, ClassGeometry, float]], **given: Any) -> CollapsePath:
    t, found, loss = zip(*steps, strict=True)
    figures = [(each.nc1_trace(), each.nc1(), each.trace_within, each.trace_between) for each in found]
    trace, nc1, within, between = np.array(figures).T
    return CollapsePath(np.array(t), trace, nc1, within, between, np.array(loss), **given)


@checked
def central_path(X: Any, y: Any, lam_w: Number, lam_h: Number, t: Any = (0.0, 1.0)) -> CollapsePath:
    """Let features flow down the gradient of L, the classifier being the best one at all times (section 3).

    The flow stands for layers that change little each, 1 / beta being a short time. Theorem 3.1 says which quantities
    are monotone, for classes of equal size and features not collapsed; for others it is only computed.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        Features at time 0.
    y : array-like, shape (n_samples,)
    lam_w, lam_h : float
        Positive, and at least 0.
    t : array-like, shape (n_steps,)
        Rising times from 0 on, at which the path is told; the last is above 0.

    Raises
    ------
    ValueError
        Bad input, class means that are all one, times that do not rise, a path too stiff to follow.
    """
    check_lambdas(lam_w, lam_h)
    times = check_numbers(t, "t").reshape(-1)
    rising = len(times) and np.isfinite(times).all() and times[0] >= 0 and (np.diff(times) > 0).all()
    if not rising or not 0 < times[-1] <= 1e6:
        raise ValueError("t must hold rising times from 0 on, the last of them positive and at most 1e6")
    H0, classes, Y, _ = read_features(X, y)
    U, R = qr(np.c_[Y, H0], mode="economic", check_finite=False)  # as compress, and back to all rows by U
    C0 = R[:, len(classes) :]
    problem = Objective(R[:, : len(classes)], len(H0) / len(classes), float(lam_w), float(lam_h))

    def velocity(_: float, state: np.ndarray) -> np.ndarray:
        C = state.reshape(C0.shape)
        return -problem.gradient(C, problem.classifier(C)).ravel()

    atol = _ATOL * math.sqrt(np.square(H0).mean())
    found = solve_ivp(velocity, (0, times[-1]), C0.ravel(), t_eval=times, rtol=_RTOL, atol=atol)
    if not found.success:
        raise ValueError(f"lam_w={lam_w} makes the path too stiff to follow ({found.message}); raise it")
    steps = []
    for time, state in zip(times, found.y.T, strict=True):
        C = state.reshape(C0.shape)
        features = U @ C
        loss = problem.loss(C, problem.classifier(C)) / len(H0)
        steps.append((float(time), class_geometry(features, Y.argmax(1)), loss))
    return _path(steps, lam_h=float(lam_h), features=features)


@checked
def depth_profile(
    X: Any,
    y: Any,
    lam_w: Number,
    lam_h: Number,
    beta: Number,
    n_layers: int | np.integer = 5,
    *,
    solver: str = "alternating",
) -> CollapsePath:
    """Variability layer by layer, each layer's features being those that the next one is held to.

    Corollary 3.2: where beta is large enough, it falls from layer to layer.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
    y : array-like, shape (n_samples,)
    lam_w, lam_h, beta, solver
        As of :class:`NearCollapseModel`.
    n_layers : int

    Warns
    -----
    ConvergenceWarning
        In some layer 5000 rounds were not enough.
    """
    check_lambdas(lam_w, lam_h, beta)
    check_choice(solver, SOLVERS, "solver")
    check_counts(n_layers=n_layers)
    H, classes, Y, geometry = read_features(X, y)
    C, Yc = compress(H, Y)
    problem, whole = (Objective(each, len(H) / len(classes), float(lam_w), float(lam_h)) for each in (Yc, Y))
    steps = [(0.0, geometry, problem.loss(C, problem.classifier(C)) / len(H))]
    unfinished = []
    for layer in range(1, int(n_layers) + 1):
        W, _, done = solve(problem, C, float(beta), solver, _TOL, _ROUNDS)
        unfinished += [] if done else [layer]
        C, H = problem.features(W, C, float(beta)), whole.features(W, H, float(beta))
        loss = problem.loss(C, problem.classifier(C)) / len(H)
        steps.append((layer / float(beta), class_geometry(H, Y.argmax(1)), loss))
    if unfinished:
        warn(
            f'features still moved after {_ROUNDS} rounds in layers {unfinished}; take solver="anderson"',
            ConvergenceWarning,
        )
    return _path(steps, lam_h=float(lam_h), features=H, beta=float(beta), converged=not unfinished)


# ---- beta of two layers


@dataclass(frozen=True)
class BetaEstimate(Result):
    """How strongly a layer held its features to those that it was given.

    Attributes
    ----------
    beta : float
        1 / change; NaN where change is not positive.
    change, se : float
        1 / beta and its standard error over rows, whatever the distribution of what the model leaves.
    lam_h : float
        As given, or fitted with beta.
    share : float
        Of the way between the layers' features, in squares, the share that the model accounts for.
    nc1_before, nc1_after : float
        By traces.
    related : bool
        Whether rows of a class differ in H as they do in H0: the squared cosine of both sets of deviations, turned, is
        at least a half, and above that of rows shuffled within classes, 19 times. Class means alone, which nearly
        always agree, tell nothing of a link.
    identified : bool
        Whether so, change is two standard errors above zero, lam_h not below it, and the share at least a half.
    """

    beta: float
    change: float
    se: float
    lam_h: float
    share: float
    nc1_before: float
    nc1_after: float
    related: bool
    identified: bool

    def __str__(self) -> str:
        figures = f"1 / beta = {self.change:.4g} +- {self.se:.2g}"
        accounts = f"{max(self.share, 0.0):.0%} of the way between the layers"
        if self.identified:
            return f"beta = {self.beta:.4g} ({figures}) accounts for {accounts}"
        unlike = "" if self.related else "; rows of a class differ otherwise than in H0"
        return f"the data cannot tell beta: {figures} would account for {accounts}{unlike}"


def _related(first: np.ndarray, last: np.ndarray, Y: np.ndarray) -> bool:
    codes = Y.argmax(1)
    before, after = (rows - (Y / Y.sum(0)) @ (Y.T @ rows) for rows in (first, last))
    rng, sorted_rows = np.random.default_rng(0), np.argsort(codes, kind="stable")

    def alike(rows: np.ndarray) -> float:
        return float(np.linalg.svd(before.T @ rows, compute_uv=False).sum())

    def shuffled() -> np.ndarray:
        rows = np.empty_like(after)
        rows[sorted_rows] = after[np.lexsort((rng.random(len(codes)), codes))]
        return rows

    found, largest = alike(after), float(np.linalg.norm(before) * np.linalg.norm(after))
    spread = min(np.linalg.norm(before) / np.linalg.norm(first), np.linalg.norm(after) / np.linalg.norm(last))
    if spread < 1e-10 or found**2 < _LEAST_SHARE * largest**2:
        return False
    return all(alike(shuffled()) < found for _ in range(_SHUFFLES))


@checked
def estimate_beta(H0: Any, H: Any, y: Any, lam_w: Number, lam_h: Number | None = None) -> BetaEstimate:
    r"""Estimate beta from what two adjacent layers say of the same inputs.

    If H is the model's answer to H0, the pull of targets is balanced by the link:

    .. math:: H_0 - H = \frac1\beta \big((H W^\top - Y) W + \lambda_H H\big), \qquad W = W^*(H),

    which is a regression of the way between the layers on the pull, by least squares over all entries; so what else a
    layer does to its input, if it has nothing to do with the pull, makes beta less certain but not too small. Noise of
    H itself is in the pull too, and makes 1 / beta too small where it is large beside the way.

    The layers may have units of their own, in other numbers: the smaller one is filled up with zeros, and H0 turned to
    be nearest to H. Since :math:`\beta H^\top H_0 = (\lambda_H + \beta) H^\top H - n \lambda_W W^\top W` is symmetric,
    and positive where :math:`\lambda_W (\lambda_H + \beta) \ge 1` or H is not small, this undoes whatever turned the
    model's features.

    Parameters
    ----------
    H0, H : array-like, shape (n_samples, n_units)
        Features of the shallower and of the deeper layer. The scale counts: the model has no layer that only scales.
    y : array-like, shape (n_samples,)
    lam_w : float
        Of the classifier; weight decay w makes K w of it.
    lam_h : float, optional
        Fitted too where not given, from the same equation, and then beta is less certain.

    Returns
    -------
    BetaEstimate
        ``identified`` is False where the data cannot tell.

    Raises
    ------
    ValueError
        Bad input, layers that say the same (no finite beta), features at rest (any beta).
    """
    check_lambdas(lam_w, 0.0 if lam_h is None else lam_h)
    last, classes, Y, after = read_features(H, y, "H")
    first = check_matrix(H0, name="H0")
    if len(first) != len(last):
        raise ValueError(
            f"H0 and H have shapes {first.shape} and {last.shape}; rows are samples: did you transpose one?"
        )
    first, _, _, before = read_features(first, y, "H0")
    width = max(first.shape[1], last.shape[1])
    first, last = (np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in (first, last))
    left, _, right = np.linalg.svd(first.T @ last)
    turned = first @ (left @ right)
    if np.linalg.norm(turned - last) <= 1e-10 * np.linalg.norm(last):
        raise ValueError("H0 and H are the same up to a rotation: no finite beta, the layer changed nothing")
    problem = Objective(Y, len(last) / len(classes), float(lam_w), 0.0)
    way, pull = turned - last, problem.gradient(last, problem.classifier(last))
    columns = np.stack([pull, last] if lam_h is None else [pull + float(lam_h) * last])
    normal = np.einsum("aij,bij->ab", columns, columns)
    # what of the pull is no decay: not by the determinant, which rounds by as much as is looked for
    left_over = columns[0] if lam_h is not None else pull - (pull * last).sum() / np.square(last).sum() * last
    if not np.linalg.norm(left_over) > 1e-8 * np.linalg.norm(pull):
        raise ValueError("H is at rest, its pull being its decay: any beta would do")
    fitted = np.linalg.solve(normal, np.einsum("aij,ij->a", columns, way))
    rest = way - np.tensordot(fitted, columns, 1)
    scores = np.einsum("aij,ij->ai", columns, rest)
    error = math.sqrt(np.linalg.solve(normal, np.linalg.solve(normal, scores @ scores.T).T)[0, 0])
    share = 1 - float(np.square(rest).sum() / np.square(way).sum())
    change = float(fitted[0])
    beta = 1 / change if change > 0 else math.nan
    decay = float(fitted[1]) * beta if lam_h is None else float(lam_h)
    related = _related(first, last, Y)
    known = bool(related and change > 2 * error and share >= _LEAST_SHARE and decay >= 0)
    return BetaEstimate(
        beta, change, error, decay, share, before.nc1_trace(), after.nc1_trace(), related, known
    )
