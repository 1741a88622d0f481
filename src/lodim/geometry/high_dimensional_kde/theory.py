"""Three regimes of a kernel density estimate: where the bandwidth's thresholds lie, by large deviations.

*Kernel Density Estimators in Large Dimensions*, Biroli and Mezard 2024, arXiv 2408.05807. With n = e^{alpha d} points
y_i the estimate ``rho_h(x) = (1/n) sum_i K_h(x - y_i)`` is the partition function of a random energy model: the
energies ``|x - y_i|^2 / 2`` of independent points, at the inverse temperature lambda = 1/h^2. With

    phi(lambda) = (1/d) log E_y exp(-lambda |x - y|^2 / 2)        for a typical x

the entropy of the terms that make up the sum is ``s(lambda) = alpha + phi - lambda phi'``, decreasing in lambda.

- Below h_G, where ``s(1/h_G^2) = 0``, a few nearest points make up the sum (condensation).
- The central limit theorem needs the sum of squared terms to average as well, which is the same condition at
  2 lambda: ``h_CLT = sqrt(2) h_G`` for a Gaussian kernel, whatever the data.
- Over data sets, rho_h(x) has a tail of index ``mu = (h / h_G)^2``: above 2 it fluctuates normally, between 1 and 2
  its mean converges but it is an alpha-stable variable around it, below 1 there is no law of large numbers, and the
  shares p_i of the points in the sum have ``E sum_i p_i^2 = 1 - mu``.
- The log-likelihood of fresh points has its maximum where ``h*^2 = u_G = -2 phi'(lambda_G)``, the typical squared
  distance to the nearest neighbour over d, whenever that is below h_G^2 (as for Gaussian data): the best bandwidth
  lies in the condensed regime.

For Gaussian data whose covariance has the eigenvalues s_j, and x of squared coordinates r_j s_j along its axes
(r_j = 1 for a typical x), the mean being over j and ``t_j = lambda s_j``:

    phi = mean_j [ -log(1 + t_j) / 2 - r_j t_j / (2 (1 + t_j)) ].

================ ============================ ====================================================
in the paper     here                         meaning
================ ============================ ====================================================
alpha            ``alpha``                    log(n) / d
phi              ``phi(rate)``                exponent of the mean kernel (user callable, optional)
h_G, h_CLT       ``h_g``, ``h_clt``           thresholds
optimal h        ``h_opt``                    maximiser of the expected log-likelihood
alpha of stable  ``tail_index(h)``            mu above
KL/d             ``kl_per_dim``               at ``h_opt``
================ ============================ ====================================================

Departure. The formulas are derived again in this form, for any spectrum and any position; they hold for d to infinity
at fixed alpha. At tens of dimensions thresholds measured on data lie above these by ten to twenty per cent.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from lodim.results import Result
from lodim.validation import check_in_range, check_numbers, checked

REGIMES = ("condensed", "stable", "clt")
_STEP = 1e-4  # of log(lambda), for the derivative of a phi that comes without one
_LARGEST_EXPONENT = math.log(sys.float_info.max)
_SMALLEST, _LARGEST = 1e-12, 1e12  # rates, in units of the first guess


def regime_of(tail_index: float) -> str:
    """Name the regime of a tail index: ``"condensed"`` up to 1, ``"stable"`` up to 2, else ``"clt"``."""
    return REGIMES[0] if tail_index <= 1 else REGIMES[1] if tail_index <= 2 else REGIMES[2]


@dataclass(frozen=True)
class KDETheory(Result):
    """Thresholds and the best bandwidth for n points in d dimensions (n, d to infinity at fixed alpha).

    Attributes
    ----------
    alpha : float
        log(n) / d.
    h_g, h_clt : float
        Below ``h_g`` a few points decide; above ``h_clt`` the central limit theorem holds. In the data's unit.
    h_opt : float
        Bandwidth of the largest expected log-likelihood; NaN where it is not below ``h_g`` (at unusual positions).
    u_g : float
        Typical squared distance to the nearest neighbour, over d.
    kl_per_dim : float
        Kullback-Leibler divergence from the data's law to the estimate at ``h_opt``, over d; NaN where the data's
        entropy is not known (a ``phi`` of your own without ``entropy``, a ``position`` other than 1) or ``h_opt`` is
        NaN.
    """

    alpha: float
    h_g: float
    h_clt: float
    h_opt: float
    u_g: float
    kl_per_dim: float
    d: int | None = None
    n: float | None = None

    def tail_index(self, h: float) -> float:
        """Index mu of the tail of the estimate's law over data sets.

        Parameters
        ----------
        h : float
            Bandwidth.
        """
        return (h / self.h_g) ** 2

    def regime(self, h: float) -> str:
        """Name the regime at a bandwidth: ``"condensed"``, ``"stable"`` or ``"clt"``."""
        return regime_of(self.tail_index(h))

    def share_squared(self, h: float) -> float:
        """Expected sum of the squared shares of the points in the sum: 1 - mu, and 0 above ``h_g``."""
        return max(0.0, 1.0 - self.tail_index(h))

    def __str__(self) -> str:
        size = "" if self.d is None else f"{self.n:.4g} points in {self.d} dimensions, "
        kl = "" if math.isnan(self.kl_per_dim) else f", KL/d = {self.kl_per_dim:.4f} there"
        best = f"best h = {self.h_opt:.4g} ({self.regime(self.h_opt)}){kl}"
        if math.isnan(self.h_opt):
            best = "best h not below h_G"
        return f"{size}alpha = {self.alpha:.4g}: h_G = {self.h_g:.4g}, h_CLT = {self.h_clt:.4g}, {best}"


def gaussian_phi(spectrum: Any, position: Any = 1.0) -> Callable[[float], tuple[float, float]]:
    """Exponent of the mean Gaussian kernel for Gaussian data: a function of lambda that returns (phi, phi').

    Parameters
    ----------
    spectrum : array-like, shape (d,)
        Eigenvalues of the covariance, nonnegative.
    position : float or array-like, shape (d,)
        Squared coordinates of x along the eigenvectors, relative to the eigenvalues; 1 is typical.
    """
    s = _spectrum(spectrum)
    r = _positions(position, len(s))

    def phi(rate: float) -> tuple[float, float]:
        t = rate * s
        value = -np.log1p(t) / 2 - r * t / (2 * (1 + t))
        slope = -s / (2 * (1 + t)) - r * s / (2 * (1 + t) ** 2)
        return float(value.mean()), float(slope.mean())

    return phi


def _spectrum(spectrum: Any) -> np.ndarray:
    s = np.atleast_1d(check_numbers(spectrum, "spectrum"))
    if not (np.isfinite(s).all() and (s >= 0).all() and (s > 0).any()):
        raise ValueError(
            f"spectrum must hold nonnegative eigenvalues, one of them positive, got {s.tolist()}"
        )
    return s


def _positions(position: Any, d: int) -> np.ndarray:
    """One squared coordinate for every eigenvalue."""
    r = np.atleast_1d(_numbers(position))
    if r.ndim != 1 or len(r) not in (1, d):
        raise ValueError(
            f"position has {r.size} numbers for {d} dimensions; give one for all, or one for each dimension "
            "(d= or the length of spectrum)"
        )
    if not (np.isfinite(r).all() and (r >= 0).all()):
        raise ValueError(f"position must be finite and nonnegative (squared coordinates), got {position}")
    return np.broadcast_to(r, (d,))


def _numbers(position: Any) -> np.ndarray:
    """One number, which a truth value or NaN is not, or several."""
    r = check_numbers(position, "position")
    if not r.ndim:
        check_in_range(position, "position")
    return r


def _with_slope(phi: Callable[[float], Any]) -> Callable[[float], tuple[float, float]]:
    """Let a function that returns phi only return the derivative too, by a central difference in log lambda."""

    def both(rate: float) -> tuple[float, float]:
        found = phi(rate)
        if isinstance(found, tuple) and len(found) == 2:
            value, slope = (float(check_in_range(part, "phi(lambda) and its derivative")) for part in found)
            return value, slope
        at, up, down = (
            float(check_in_range(value, "phi(lambda)"))
            for value in (found, phi(rate * math.exp(_STEP)), phi(rate * math.exp(-_STEP)))
        )
        return at, (up - down) / (2 * _STEP * rate)

    return both


def _condensation_rate(
    phi: Callable[[float], tuple[float, float]], alpha: float, guess: float, limit: float = math.inf
) -> float:
    """Solve ``alpha + phi - lambda phi' = 0``; the left side decreases in lambda, which phi knows up to a limit."""

    def entropy(log_rate: float) -> float:
        rate = math.exp(log_rate)
        value, slope = phi(rate)
        return alpha + value - rate * slope

    low = high = math.log(guess)
    while entropy(low) <= 0:
        low -= 1.0
        if low < math.log(guess) + math.log(_SMALLEST):
            raise ValueError(
                "no bandwidth leaves entropy: alpha is too small or position too far out for double precision, or phi "
                "is not about -lambda u / 2 for small lambda"
            )
    while entropy(high) > 0:
        high = high + 1.0 if high >= math.log(limit) else min(high + 1.0, math.log(limit))
        if high > math.log(guess * _LARGEST):
            raise ValueError(
                "no condensation at any bandwidth: the data have an atom, or phi is not of a density"
            )
    return math.exp(brentq(entropy, low, high, xtol=1e-13))


def _alpha(n: Any, d: Any, alpha: Any) -> float:
    if alpha is not None:
        if n is not None:
            raise ValueError("give the number of points as n or as alpha = log(n) / d, not both")
        alpha = float(check_in_range(alpha, "alpha", low=0.0))
        if alpha == 0 or math.isinf(alpha):
            raise ValueError(f"alpha must be positive and finite, got {alpha}")
        return alpha
    if n is None or d is None:
        raise ValueError("give n and d (or the spectrum), or alpha = log(n) / d")
    return math.log(check_in_range(n, "n", low=2)) / int(check_in_range(d, "d", low=1, integer=True))


@checked
def kde_theory(
    n: Any = None,
    d: Any = None,
    spectrum: Any = None,
    *,
    alpha: Any = None,
    position: Any = 1.0,
    phi: Callable[[float], Any] | None = None,
    entropy: float | None = None,
) -> KDETheory:
    """Thresholds h_G and h_CLT, the best bandwidth and its divergence, for Gaussian data or for a ``phi`` of your own.

    Parameters
    ----------
    n : float, optional
        Points, at least 2.
    d : int, optional
        Dimensions; default the length of ``spectrum``.
    spectrum : array-like, shape (d,), optional
        Eigenvalues of the data's covariance; default all 1.
    alpha : float, optional
        log(n) / d in place of ``n`` (then ``d`` may be left out).
    position : float or array-like, shape (d,)
        Where the query lies, see :func:`gaussian_phi`. ``kl_per_dim`` is for typical queries only.
    phi : callable, optional
        Of other data: takes lambda = 1/h^2, returns phi or (phi, phi').
    entropy : float, optional
        With ``phi``: differential entropy of the data over d, for ``kl_per_dim``.

    Raises
    ------
    ValueError
        Neither n and d nor alpha, or a ``phi`` that has no condensation.

    References
    ----------
    Biroli and Mezard 2024, arXiv 2408.05807.

    Examples
    --------
    >>> from lodim.geometry import kde_theory
    >>> print(kde_theory(20_000, 40))
    2e+04 points in 40 dimensions, alpha = 0.2476: h_G = 0.9511, h_CLT = 1.345, best h = 0.837 (condensed), \
KL/d = 0.0696 there
    """
    if phi is not None and spectrum is not None:
        raise ValueError("give the spectrum of Gaussian data or a phi of your own, not both")
    own = None if spectrum is None else _spectrum(spectrum)
    if own is not None:
        d = len(own) if d is None else d
        if len(own) not in (1, d):
            raise ValueError(
                f"spectrum has {len(own)} eigenvalues for d={d}; give one for each dimension, or one for all"
            )
    position = _numbers(position)
    size = None if d is None else int(check_in_range(d, "d", low=1, integer=True))
    a = _alpha(n, size, alpha)
    s = np.ones(size if size is not None and position.size > 1 else 1) if own is None else own
    if phi is None:
        function, guess = gaussian_phi(s, position), 1 / float(s.mean())
        if (s > 0).all() and (position == 1).all():
            entropy = 0.5 * (math.log(2 * math.pi * math.e) + float(np.log(s).mean()))
    else:
        function, guess = _with_slope(phi), float(getattr(phi, "guess", 1.0))
    rate = _condensation_rate(function, a, guess, float(getattr(phi, "limit", math.inf)))
    u, h_g = -2 * function(rate)[1], rate**-0.5
    h_opt = math.sqrt(u) if u <= h_g**2 else math.nan
    kl = math.nan
    if entropy is not None and h_opt == h_opt:
        kl = a + 0.5 * math.log(2 * math.pi * u) + 0.5 - entropy
    if n is None and size is not None:
        n = np.exp(a * size) if a * size < _LARGEST_EXPONENT else math.inf
    return KDETheory(a, h_g, math.sqrt(2) * h_g, h_opt, u, kl, size, None if n is None else float(n))


@dataclass(frozen=True)
class RegimeMap(Result):
    """The three regimes over alpha = log(n) / d and the bandwidth."""

    alpha: Float[np.ndarray, " n_alpha"]
    h_g: Float[np.ndarray, " n_alpha"]
    h_clt: Float[np.ndarray, " n_alpha"]
    h_opt: Float[np.ndarray, " n_alpha"]

    def to_frame(self) -> Any:
        """Return one row for each alpha."""
        import pandas as pd

        return pd.DataFrame({"alpha": self.alpha, "h_g": self.h_g, "h_clt": self.h_clt, "h_opt": self.h_opt})

    def plot(self, ax: Any = None, *, points: Any = ()) -> Any:
        """Draw the map and return its axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        points : iterable of (alpha, h, label)
            Data sets to mark.
        """
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        top = 1.15 * self.h_clt.max()
        bands = (
            (np.zeros_like(self.h_g), self.h_g, COLORS[1], "condensed: a few points decide", 0.18),
            (self.h_g, self.h_clt, COLORS[4], "stable: heavy-tailed", 0.20),
            (self.h_clt, np.full_like(self.h_g, top), COLORS[2], "clt: an average", 0.15),
        )
        for low, high, color, label, strength in bands:
            ax.fill_between(self.alpha, low, high, color=color, alpha=strength, linewidth=0, label=label)
        ax.plot(self.alpha, self.h_g, color=COLORS[1], linewidth=1.2)
        ax.plot(self.alpha, self.h_clt, color=COLORS[2], linewidth=1.2)
        ax.plot(self.alpha, self.h_opt, color=COLORS[0], label="best bandwidth")
        for alpha, h, label in points:
            ax.plot([alpha], [h], "o", color="black")
            ax.annotate(label, (alpha, h), xytext=(5, 5), textcoords="offset points")
        ax.set(
            xlabel="alpha = log(n) / d",
            ylabel="bandwidth h",
            xlim=(self.alpha[0], self.alpha[-1]),
            ylim=(0, top),
        )
        ax.legend(loc="upper right")
        return ax


@checked
def regime_map(alphas: Any = None, spectrum: Any = None) -> RegimeMap:
    """Thresholds and best bandwidth for many alpha: the paper's phase diagram.

    Parameters
    ----------
    alphas : array-like, shape (n_alpha,), optional
        Ascending; default 0.02 to 1.
    spectrum : array-like, shape (d,), optional
        Eigenvalues of the covariance of Gaussian data; default all 1.
    """
    grid = np.geomspace(0.02, 1.0, 80) if alphas is None else np.atleast_1d(check_numbers(alphas, "alphas"))
    found = [
        kde_theory(alpha=float(check_in_range(a, "alphas", low=1e-20, high=1e300)), spectrum=spectrum)
        for a in grid
    ]
    columns = {name: np.array([getattr(t, name) for t in found]) for name in ("h_g", "h_clt", "h_opt")}
    return RegimeMap(grid, **columns)
