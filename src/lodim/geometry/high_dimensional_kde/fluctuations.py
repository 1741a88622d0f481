"""How a density estimate fluctuates from data set to data set: the test of the alpha-stable regime.

The estimate at one typical x is computed for many independent data sets; the tail index of its law is read off the
largest values (above the median) by Hill's estimator and compared with ``mu = (h / h_G)^2`` (Biroli and Mezard 2024,
arXiv 2408.05807). The mean exists for mu > 1 and the variance for mu > 2.

The largest twentieth lies deeper than the typical largest term that sets mu, so that at finite size the index is
higher. A large value is one large term, so what Hill's estimator would find follows from the law of distances alone: a
value exceeded by a share q of the data sets is a distance fallen short of with probability q / n.

Only the squared distances from x to the points are needed. For Gaussian data with unit covariance and ``|x|^2 = d``
they are noncentral chi-squared numbers, so that no point is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp
from scipy.stats import ncx2

from lodim.geometry.high_dimensional_kde.regime import hill_index
from lodim.geometry.high_dimensional_kde.theory import kde_theory, regime_of
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import check_in_range, check_numbers

_CHUNK = 1 << 22
_TAIL = 0.05


@dataclass(frozen=True)
class Fluctuations(Result):
    """The law of an estimate at one point over data sets.

    Attributes
    ----------
    tail_index, se : float
        Hill's index of the largest twentieth of the values, and its standard error.
    expected : float
        ``(h / h_G)^2``, for d to infinity at this alpha.
    expected_here : float
        The index of one large term at this n and d; NaN for a sampler of one's own.
    log_values : ndarray, shape (n_sets,)
        Log of the mean kernel (without its constant), ascending.
    """

    n: int
    d: int
    bandwidth: float
    tail_index: float
    se: float
    expected: float
    expected_here: float
    log_values: Float[np.ndarray, " n_sets"]

    @property
    def regime(self) -> str:
        """Regime by the measured index."""
        return regime_of(self.tail_index)

    def plot(self, ax: Any = None) -> Any:
        """Draw the share of data sets above a value, with both power laws, and return the matplotlib axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        excess = np.expm1(self.log_values - np.median(self.log_values))
        above = 1 - np.arange(len(excess)) / len(excess)
        ax.plot(excess[excess > 0], above[excess > 0], color=COLORS[0], label=f"{len(excess):,} data sets")
        tail = excess[int((1 - _TAIL) * len(excess)) :]
        for index, color, label in (
            (self.tail_index, COLORS[1], f"Hill: {self.tail_index:.2f} +- {self.se:.2f}"),
            (self.expected_here, COLORS[3], f"one large term: {self.expected_here:.2f}"),
            (self.expected, COLORS[2], f"(h / h_G)^2 = {self.expected:.2f}"),
        ):
            ax.plot(tail, _TAIL * (tail / tail[0]) ** -index, "--", color=color, label=label)
        ax.set_xlim(left=0.01)
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="(estimate - median) / median",
            ylabel="share of data sets above",
        )
        ax.legend()
        return ax

    def __str__(self) -> str:
        return (
            f"density estimate of {self.n:,} points in {self.d} dimensions at h = {self.bandwidth:.4g} over "
            f"{len(self.log_values):,} data sets: tail index {self.tail_index:.2f} +- {self.se:.2f} ({self.regime}), "
            f"expected {self.expected:.2f} for d to infinity, {self.expected_here:.2f} at this size"
        )


def density_fluctuations(
    bandwidth: Any,
    n: int,
    d: int,
    *,
    n_sets: int = 4000,
    sampler: Callable[[np.random.Generator, int, int], Any] | None = None,
    expected: float | None = None,
    random_state: RandomState = None,
) -> Fluctuations:
    """Sample the estimate at a typical point over many data sets and measure the tail of its law. Each of at least 200
    data sets has n points in d dimensions.

    Parameters
    ----------
    sampler : callable, optional
        ``sampler(rng, m, n)`` returns squared distances from the fixed x to n points for each of m data sets, shape
        (m, n). Default: unit Gaussian data, ``|x|^2 = d``.
    expected : float, optional
        Index to compare with; default that of unit Gaussian data.
    """
    if not 0 < check_in_range(bandwidth, "bandwidth", low=0) < math.inf:
        raise ValueError(f"bandwidth must be positive and finite, got {bandwidth}")
    check_in_range(n, "n", low=2, integer=True)
    check_in_range(n_sets, "n_sets", low=200, integer=True)
    rng, logs = as_generator(random_state), []
    step = max(1, _CHUNK // n)
    for start in range(0, n_sets, step):
        m = min(step, n_sets - start)
        if sampler is None:
            squares = rng.noncentral_chisquare(d, d, size=(m, n))
        else:
            squares = check_numbers(sampler(rng, m, n), "what sampler returns")
            if squares.shape != (m, n) or not (squares >= 0).all():
                raise ValueError(
                    f"sampler must return squared distances of shape {(m, n)}, got shape {squares.shape}"
                )
        logs.append(logsumexp(-squares / (2 * bandwidth**2), axis=1) - np.log(n))
    values = np.sort(np.concatenate(logs))
    excess = np.exp(values - values[-1]) - np.exp(np.median(values) - values[-1])
    largest = np.log(excess[::-1][None, : max(10, int(_TAIL * n_sets))])
    index = float(hill_index(largest)[0])
    wanted = kde_theory(n, d).tail_index(float(bandwidth)) if expected is None else expected
    here = _one_large_term(float(bandwidth), n, d) if sampler is None else math.nan
    return Fluctuations(
        n, d, float(bandwidth), index, index / math.sqrt(largest.shape[1] - 2), wanted, here, values
    )


def _one_large_term(h: float, n: int, d: int) -> float:
    """Hill's index for values of which each is its largest term: one over the mean gap of the log terms."""
    shares = (np.arange(2000) + 0.5) / 2000 * _TAIL
    squares = ncx2.ppf(np.append(shares, _TAIL) / n, d, d)
    return float(2 * h**2 / (squares[-1] - squares[:-1]).mean())
