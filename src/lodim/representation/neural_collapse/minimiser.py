"""The closed form: :func:`ufm_minimizer`, and :func:`predict_geometry` for a network with its own conventions.

The equations are in the package's docstring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.linalg import helmert
from scipy.optimize import brentq

from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_numbers, checked, warn

__all__ = ["UFMPoint", "UFMSolution", "predict_geometry", "ufm_minimizer"]

LOSSES, CRITERIA = ("mse", "ce"), ("mse", "mse_mean", "ce")
_ROUNDS = 200  # Newton's steps; a dozen are common


@dataclass(frozen=True, eq=False)
class UFMPoint:
    """Weights and features, and the labels of the features' columns.

    Attributes
    ----------
    weights : tuple of ndarray
        W_1, ..., W_M; W_m has shape (d_m, d_{m-1}), with d_M = K.
    features : ndarray, shape (d_0, N)
    labels : ndarray, shape (N,)
        Class by class.
    bias : ndarray, shape (K,)
    """

    weights: tuple[Float[np.ndarray, "_ _"], ...]
    features: Float[np.ndarray, "d N"]
    labels: Int[np.ndarray, " N"]
    bias: Float[np.ndarray, " K"]


@dataclass(frozen=True, eq=False)
class UFMSolution(Result):
    """The global minimiser (but see ``simplex_only``), up to rotations of the hidden spaces.

    Attributes
    ----------
    n_per_class : ndarray, shape (K,)
    lam_w : ndarray, shape (M,)
        Of W_1, ..., W_M.
    lam_h : float
    dims : tuple of int
        Widths of the features and of all layers but the last.
    loss_name : {"mse", "ce"}
    has_bias : bool
    directions : ndarray, shape (K, K)
        Columns are orthonormal: left singular vectors of the targets.
    effective_counts : ndarray, shape (K,)
        What stands for a class's number of samples in each direction; without bias it is that.
    shares : ndarray, shape (K,)
        The share q of the target that a direction's logit reaches; 0 where it is dead. With "ce" it is tau.
    bias : ndarray, shape (K,)
    threshold : float
        Directions whose effective count is larger are alive (unless a layer is too narrow); NaN with "ce".
    loss : float
    simplex_only : bool
        The best among simplex solutions only, nothing is said of others: with "ce", three classes or more and two
        layers or more, when solutions of lower rank can have a lower loss.
    """

    n_per_class: Int[np.ndarray, " K"]
    lam_w: Float[np.ndarray, " M"]
    lam_h: float
    dims: tuple[int, ...]
    loss_name: str
    has_bias: bool
    directions: Float[np.ndarray, "K K"]
    effective_counts: Float[np.ndarray, " K"]
    shares: Float[np.ndarray, " K"]
    bias: Float[np.ndarray, " K"]
    threshold: float
    loss: float
    simplex_only: bool

    @property
    def kappa(self) -> Float[np.ndarray, " K"]:
        """What every layer's and the features' penalty is, times 2, in each direction."""
        return _kappa(
            self.shares * np.sqrt(self.effective_counts), len(self.lam_w), self.lam_h * np.prod(self.lam_w)
        )

    @property
    def layer_singular_values(self) -> Float[np.ndarray, "M K"]:
        """Of W_1, ..., W_M, in the order of the directions."""
        return np.sqrt(self.kappa / self.lam_w[:, None])

    @property
    def product_singular_values(self) -> Float[np.ndarray, " K"]:
        """Of P = W_M ... W_1."""
        return self.layer_singular_values.prod(0)

    @property
    def classifier_gram(self) -> Float[np.ndarray, "K K"]:
        """P P', inner products of the rows of the product."""
        return (self.directions * self.product_singular_values**2) @ self.directions.T

    @property
    def mean_gram(self) -> Float[np.ndarray, "K K"]:
        """Inner products of the class means of the features."""
        away = self._away
        return (away.T * self._mean_weights**2) @ away

    @property
    def logits(self) -> Float[np.ndarray, "K K"]:
        """What the network says of each class's mean, a column, bias included."""
        return (self.directions * self.shares) @ self._away + self.bias[:, None]

    @property
    def classifier_norms(self) -> Float[np.ndarray, " K"]:
        """Lengths of the rows of P."""
        return np.sqrt((self.directions * self.product_singular_values) ** 2 @ np.ones(len(self.bias)))

    @property
    def mean_norms(self) -> Float[np.ndarray, " K"]:
        """Lengths of the class means of the features."""
        return np.sqrt(np.square(self._mean_weights[:, None] * self._away).sum(0))

    @property
    def alive(self) -> Bool[np.ndarray, " K"]:
        """Whether the class's row of P is not zero; False is minority collapse."""
        return self.classifier_norms > 1e-12 * self.classifier_norms.max(initial=1e-300)

    @property
    def _away(self) -> Float[np.ndarray, "K K"]:
        """U' times the targets' columns of one sample of each class."""
        if not self.has_bias and self.loss_name == "mse":
            return self.directions.T
        return self.directions.T - (self.directions.T @ self.n_per_class / self.n_per_class.sum())[:, None]

    @property
    def _mean_weights(self) -> Float[np.ndarray, " K"]:
        counts = self.effective_counts
        return np.sqrt(self.kappa / self.lam_h / np.where(counts > 0, counts, 1))

    @checked
    def construct(self, random_state: RandomState = None) -> UFMPoint:
        """Return weights and features that attain the minimum, in random orthonormal frames of the hidden spaces."""
        rng, K = as_generator(random_state), len(self.bias)
        kept = np.flatnonzero(self.shares)
        frames = [np.linalg.qr(rng.normal(size=(d, len(kept))))[0] for d in self.dims]
        frames.append(self.directions[:, kept])
        strengths = self.layer_singular_values[:, kept]
        weights = tuple((after * s) @ before.T for before, after, s in zip(frames, frames[1:], strengths))
        means = frames[0] @ (self._mean_weights[kept, None] * self._away[kept])
        labels = np.repeat(np.arange(K), self.n_per_class)
        return UFMPoint(weights, means[:, labels], labels, self.bias.copy())

    def to_frame(self) -> pd.DataFrame:
        """Return a row a class: samples, lengths of classifier row and mean, own-class logit, whether it is alive."""
        return pd.DataFrame(
            {
                "samples": self.n_per_class,
                "classifier_norm": self.classifier_norms,
                "mean_norm": self.mean_norms,
                "own_logit": np.diag(self.logits),
                "alive": self.alive,
            }
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw lengths of classifier rows and class means over the classes' samples; returns the axes."""
        ax = new_axes(ax)
        for lengths, label, color in zip(
            (self.classifier_norms, self.mean_norms), ("classifier", "class mean"), COLORS
        ):
            ax.plot(self.n_per_class, lengths, "o", color=color, label=label)
        if 0 < self.threshold < 2 * self.n_per_class.max() and not self.has_bias:
            ax.axvline(self.threshold, color="0.6", linestyle="--", label="minority collapse below")
        ax.set(xlabel="samples of the class", ylabel="length")
        ax.legend()
        return ax

    def __str__(self) -> str:
        K, dead = len(self.bias), int((~self.alive).sum())
        lines = [
            f"{K} classes, {len(self.lam_w)} linear layer{'s' * (len(self.lam_w) > 1)}, loss {self.loss:.6g}: "
            + (f"{dead} of the classes are collapsed to zero" if dead else "all classes are alive")
        ]
        if self.simplex_only:
            lines.append("the best among simplex solutions; one of lower rank may have a lower loss")
        shown = self.to_frame() if K <= 20 else self.to_frame().iloc[[*range(8), *range(K - 8, K)]]
        return "\n".join([*lines, shown.to_string(float_format="{:.5g}".format)])


def _kappa(sigma: np.ndarray, M: int, c: float) -> np.ndarray:
    return (c * sigma**2) ** (1 / (M + 1))


def living_shares(
    counts: Float[np.ndarray, " r"], M: int, beta: float
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """Return the minimising q = t / (1 + t) of each effective count, 0 where none beats zero, and phi there."""
    q = np.zeros(len(counts))
    with np.errstate(divide="ignore"):
        ratio = np.log(beta) - np.log(counts)
    if M == 1:
        u = np.log(np.expm1(np.maximum(-ratio / 2, 1e-300)))
        alive = ratio < 0
    else:
        rhs = ratio - np.log(M)
        top = np.log((M - 1) / (M + 1))
        alive = (1 - 1 / M) * top - 2 * np.log1p(np.exp(top)) > rhs  # there are roots
        u = np.where(
            alive, np.maximum(-rhs / (1 + 1 / M), top + 1e-3), 0.0
        )  # above the larger one, or near the top
        for _ in range(_ROUNDS):
            sigmoid = 1 / (1 + np.exp(-u))
            step = ((1 - 1 / M) * u - 2 * np.logaddexp(0, u) - rhs) / (1 - 1 / M - 2 * sigmoid)
            u = np.where(alive, np.maximum(u - step, top + 1e-9), 0.0)
            if (np.abs(step[alive]) <= 1e-15 * (1 + np.abs(u[alive]))).all():
                break
        alive &= ratio < (1 - 1 / M) * u - np.logaddexp(0, u)  # better than zero
    q[alive] = 1 / (1 + np.exp(-u[alive]))
    phi = counts.astype(float)
    phi[alive] = counts[alive] * (1 - q[alive]) + beta * np.exp(u[alive] / M)
    return q, phi


def simplex_tau(K: int, n: float, M: int, c: float) -> float:
    """Return the tau of the best simplex for cross-entropy, 0 where none beats it."""
    level, power = np.log(c * n) / (M + 1), (M - 1) / (M + 1)

    def slope(tau: float) -> float:  # of the loss, up to a positive factor
        return level - power * np.log(tau) + np.logaddexp(tau, np.log(K - 1))

    def objective(tau: float) -> float:
        return np.log1p((K - 1) * np.exp(-tau)) + (M + 1) / 2 * (K - 1) * (c * n * tau**2) ** (1 / (M + 1))

    low = 1e-12
    if M > 1:  # the slope is convex: its lowest point parts the two roots
        low = brentq(lambda x: x / (1 + (K - 1) * np.exp(-x)) - power, 1e-12, 4 + np.log(K))
    if slope(low) >= 0:
        return 0.0
    high = 2 * low + 1
    while slope(high) < 0:
        high *= 2
    tau = float(brentq(slope, low, high, xtol=1e-14, rtol=1e-15))
    return tau if objective(tau) < np.log(K) else 0.0


def _polygon_loss(K: int, n: float, M: int, c: float) -> float:
    """Lowest loss with cross-entropy of logits r cos(2 pi (i - j) / K), which have rank two."""
    cosines = np.cos(2 * np.pi * np.arange(K) / K)
    radius = np.linspace(0, 1, 2000)[1:] * 40 / (1 - cosines[1])
    fit = np.log(np.exp(radius[:, None] * (cosines - 1)).sum(1))
    rank = 1 if K == 2 else 2
    sigma = radius * np.sqrt(n) * K / rank
    return float((fit + (M + 1) / 2 * rank * _kappa(sigma, M, c)).min())


@checked
def ufm_minimizer(
    n_per_class: Any,
    lam_w: Any,
    lam_h: float | int,
    *,
    dims: Sequence[int] | None = None,
    loss: str = "mse",
    bias: bool = False,
) -> UFMSolution:
    """Return the global minimiser of the unconstrained-features model with M linear layers.

    Parameters
    ----------
    n_per_class : array-like, shape (K,)
        Samples of each class.
    lam_w : float or array-like, shape (M,)
        Weight decay of W_1, ..., W_M; the penalty is half of it times the squares.
    lam_h : float
        Of the features.
    dims : sequence of int, optional
        Widths of the features and of all layers but the last, M in all; K each unless given. With a single ``lam_w``
        their number is the number of layers (without them: one).
    loss : {"mse", "ce"}
        Half the squared error, summed over classes and averaged over samples; or cross-entropy, for balanced classes.
    bias : bool
        Whether the last layer has a bias, not regularised. It changes nothing of balanced cross-entropy.

    Raises
    ------
    ValueError
        Fewer than two classes, one without samples, decay that is not positive, dims that do not fit, or with "ce" a
        layer narrower than K - 1.
    NotImplementedError
        "ce" with unequal classes, for which there is no closed form.

    Warns
    -----
    UserWarning
        With "ce": a polygon in the plane beats the simplex (see ``simplex_only``).
    """
    check_choice(loss, LOSSES, "loss")
    widths = [check_in_range(d, "dims", low=1, integer=True) for d in dims] if dims is not None else None
    return _minimizer(_counts(n_per_class), *_decay(lam_w, lam_h, "lam_w", "lam_h"), widths, loss, bool(bias))


def _decay(lam_w: Any, lam_h: Any, name_w: str, name_h: str) -> tuple[np.ndarray, float]:
    decay = np.atleast_1d(check_numbers(lam_w, name_w))
    if decay.ndim != 1 or not len(decay):
        raise ValueError(f"{name_w} must be a number or one a layer, got shape {decay.shape}")
    for name, value in (*((name_w, float(one)) for one in decay), (name_h, float(lam_h))):
        if not 0 < check_in_range(value, name) < np.inf:
            raise ValueError(
                f"{name} must be positive and finite, got {value}: without decay nothing is smallest"
            )
    if not np.exp(np.log(lam_h) + np.log(decay).sum()) > 0:
        raise ValueError(
            f"{name_h} times all of {name_w} is too small for double precision: give larger ones"
        )
    return decay, float(lam_h)


def _minimizer(
    counts: np.ndarray, decay: np.ndarray, lam_h: float, widths: list[int] | None, loss: str, bias: bool
) -> UFMSolution:
    if len(decay) == 1 and widths:
        decay = np.repeat(decay, len(widths))
    K, N, M = len(counts), int(counts.sum()), len(decay)
    widths = [K] * M if widths is None else widths
    if len(widths) != M:
        raise ValueError(f"dims must have one width for each of the {M} layers in lam_w, got {len(widths)}")
    c = float(np.exp(np.log(lam_h) + np.log(decay).sum()))
    rank, balanced = min(K, *widths), bool((counts == counts[0]).all())
    threshold, simplex_only = np.nan, False
    if loss == "ce":
        if not balanced:
            raise NotImplementedError(
                "unequal classes have no closed form with cross-entropy; with squared error they have one"
            )
        if rank < K - 1:
            raise ValueError(f"cross-entropy needs layers of at least K - 1 = {K - 1} units, got {widths}")
        directions, effective = helmert(K, full=True).T, np.r_[0.0, np.full(K - 1, float(counts[0]))]
        tau = simplex_tau(K, float(counts[0]), M, c)
        shares, b = np.where(effective > 0, tau, 0.0), np.zeros(K)
        fit = float(np.log1p((K - 1) * np.exp(-tau)))
        value = fit + (M + 1) / 2 * float(_kappa(shares * np.sqrt(effective), M, c).sum())
        simplex_only = M > 1 and K > 2
        if simplex_only and K > 3 and _polygon_loss(K, float(counts[0]), M, c) < value * (1 - 1e-9):
            warn("a polygon in the plane has a lower loss than the best simplex: this is no global minimum")
    else:
        if not bias:
            directions, effective, b = np.eye(K), counts.astype(float), np.zeros(K)
        else:
            b = counts / N
            if balanced:
                directions, effective = helmert(K, full=True).T, np.r_[0.0, np.full(K - 1, float(counts[0]))]
            else:
                effective, directions = np.linalg.eigh(np.diag(counts.astype(float)) - np.outer(counts, b))
                effective[0] = 0.0  # the direction of b, which rounding leaves near zero
        beta = M * N * float(np.exp((np.log(N) + np.log(c)) / M))
        threshold = beta * M / (M - 1) ** ((M - 1) / M) if M > 1 else beta
        order = np.argsort(-effective, kind="stable")[: min(rank, int((effective > 0).sum()))]
        shares, phi = np.zeros(K), effective.copy()
        shares[order], phi[order] = living_shares(effective[order], M, beta)
        value = float(phi.sum() / (2 * N))
    return UFMSolution(
        counts, decay, lam_h, tuple(int(d) for d in widths), loss, bool(bias), directions, effective, shares, b,
        float(threshold), value, bool(simplex_only),
    )  # fmt: skip


def _counts(n_per_class: Any) -> np.ndarray:
    counts = check_numbers(n_per_class, "n_per_class")
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(
            f"n_per_class must have one number for each of at least two classes, got shape {counts.shape}"
        )
    if (
        not np.isfinite(counts).all()
        or (counts != np.round(counts)).any()
        or (counts < 1).any()
        or counts.max() > 1e15
    ):
        raise ValueError(
            f"n_per_class must be whole numbers from 1 on (no class without samples), got {n_per_class!r}"
        )
    return counts.astype(np.int64)


@checked
def predict_geometry(
    n_per_class: Any,
    weight_decay: Any,
    feature_decay: float | int,
    *,
    width: int | np.integer | None = None,
    criterion: str = "mse",
    bias: bool = False,
) -> UFMSolution:
    """Return the geometry that a network's head should approach, from what its training was told.

    Parameters
    ----------
    n_per_class : array-like, shape (K,)
        Of the training set.
    weight_decay : float or array-like, shape (M,)
        Of the head's M linear layers, as torch's optimisers take it: this times the weight is added to the gradient.
    feature_decay : float
        The lam_h of the paper, half of which multiplies the squared lengths of all N features. A training whose loss
        has mu / 2 times their mean over a batch has mu / N. Where features carry no penalty of their own, they act, at
        rest, as if it was ``weight_decay`` times the squares of the head's first layer over those of all N features.
    width : int, optional
        Of the narrowest of the features and the head's hidden layers; K unless given.
    criterion : {"mse", "mse_mean", "ce"}
        Half the squared error a sample, summed over classes; ``nn.MSELoss``, which is 2 / K times that; cross-entropy.
    bias : bool
        Whether the last layer has one.
    """
    check_choice(criterion, CRITERIA, "criterion")
    counts = _counts(n_per_class)
    decay, lam_h = _decay(weight_decay, feature_decay, "weight_decay", "feature_decay")
    if width is not None:
        check_in_range(width, "width", low=1, integer=True)
    scale = len(counts) / 2 if criterion == "mse_mean" else 1.0
    dims = None if width is None else [int(width)] * len(decay)
    return _minimizer(
        counts, decay * scale, lam_h * scale, dims, "ce" if criterion == "ce" else "mse", bool(bias)
    )
