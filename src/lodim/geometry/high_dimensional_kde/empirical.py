"""The exponent phi of any data, measured by subsampling: what :func:`~lodim.geometry.kde_theory` needs.

``phi(lambda) = (1/d) mean_x log mean_y exp(-lambda |x - y|^2 / 2)`` over pairs of points of a sample. It is the
exponent of the law and not of the sample only as long as many points contribute (mean ``sum p^2`` below a tenth), that
is for lambda below a limit; half of that sum is added, which is how far the mean log of an average of independent terms
lies below the log of its mean, to first order. So N points answer what n points would see for n well below N:
every entropy ``-(phi - lambda phi')`` reached within the limit is an alpha = log(n) / d that can be asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from lodim.neighbors import LogSumExp, first_occurrences, stream_pairs
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import check_in_range, check_matrix

_MOST_SHARE = 0.1
_STEPS = 2**0.25  # between rates; the squared kernel's rate is four steps on


@dataclass(frozen=True)
class EmpiricalPhi(Result):
    """Measured phi of n points in d dimensions: call it with lambda to get (phi, phi').

    ``rates`` are ascending lambda = 1/h^2 within the limit, ``values`` phi there.
    """

    rates: Float[np.ndarray, " n_rates"]
    values: Float[np.ndarray, " n_rates"]
    n: int
    d: int

    @property
    def guess(self) -> float:
        """A rate to start a search at."""
        return float(self.rates[len(self.rates) // 2])

    @property
    def limit(self) -> float:
        """The largest rate."""
        return float(self.rates[-1])

    @property
    def alpha_limit(self) -> float:
        """Largest alpha = log(n) / d that can be asked for."""
        value, slope = self(float(self.rates[-1]))
        return float(self.rates[-1]) * slope - value

    def __call__(self, rate: float) -> tuple[float, float]:
        """Return phi and its derivative; raises ValueError above the largest rate that the sample can answer for."""
        if rate > self.rates[-1] * (1 + 1e-9):
            raise ValueError(
                f"{self.n:,} points measure phi up to lambda = {self.rates[-1]:.4g} only, which answers for alpha up "
                f"to {self.alpha_limit:.4g}: about {math.exp(self.alpha_limit * self.d):,.0f} points; ask for fewer"
            )
        if rate < self.rates[0]:  # a line through the origin
            slope = float(self.values[0] / self.rates[0])
            return slope * rate, slope
        logs = np.log(self.rates)
        spline = CubicSpline(logs, self.values)
        at = math.log(rate)
        return float(spline(at)), float(spline(at, 1)) / rate


def empirical_phi(X: Any, *, n_queries: int = 1000, random_state: RandomState = None) -> EmpiricalPhi:
    """Measure phi on the rows of a sample, a repeated one counting once: ``n_queries`` are x, and all are y.

    Raises ValueError for so few points that a few of them decide at every bandwidth.
    """
    check_in_range(n_queries, "n_queries", low=1, integer=True)
    data = check_matrix(X, min_rows=20)
    rows = data[np.unique(first_occurrences(data))]
    n, d = rows.shape
    if n < 20:
        raise ValueError(f"phi needs at least 20 distinct rows, got {n}")
    chosen = np.sort(as_generator(random_state).choice(n, size=min(n_queries, n), replace=False))
    scale = 2 * float(rows.var(0).mean())  # mean squared distance over d
    rates = _STEPS ** np.arange(-32, 33) / scale
    (sums,) = stream_pairs(rows, reducers=[LogSumExp(rates**-0.5)], query_idx=chosen)
    found = sums.cpu().numpy()
    y2 = np.exp(found[:, 4:] - 2 * found[:, :-4]).mean(0)
    beyond = np.flatnonzero(y2 > _MOST_SHARE)
    last = int(beyond[0]) if len(beyond) else len(y2)
    if last < 4:
        raise ValueError(f"{n} points are too few to measure phi: a few of them decide at every bandwidth")
    values = ((found[:, :last] - math.log(n - 1)).mean(0) + y2[:last] / 2) / d
    return EmpiricalPhi(rates[:last], values, n, d)
