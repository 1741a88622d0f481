r"""The exponent of a learning curve, ``error ~ c n^-b``, by least squares on logarithms, with a standard error.

Runs of one size often share their data, their luck included; the noise of an error depends on its size. So each size
counts once, by the mean of its log errors, and the standard error is the one robust to unequal noise, HC3: with x the
centred log sizes, :math:`r_i` the residuals and :math:`h_i` the leverages of k sizes,

.. math:: b = - \frac{\sum_i x_i \log e_i}{\sum_i x_i^2}, \qquad
          \mathrm{se}^2 = \frac{\sum_i x_i^2 \, r_i^2 / (1 - h_i)^2}{(\sum_i x_i^2)^2}, \qquad
          h_i = \frac1k + \frac{x_i^2}{\sum_j x_j^2},

and an interval takes Student's t with k - 2 degrees of freedom.

References
----------
J. G. MacKinnon and H. White, Some heteroskedasticity-consistent covariance matrix estimators with improved finite
sample properties, J. Econometrics 29 (1985).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from lodim.linalg.precision import computable
from lodim.results import Result
from lodim.validation import check_in_range, checked

__all__ = ["LearningCurve", "learning_curve_exponent"]


@dataclass(frozen=True)
class LearningCurve(Result):
    """A fitted power law.

    Attributes
    ----------
    exponent : float
        b; positive where errors fall.
    se : float
        Of the exponent; NaN for two sizes.
    low, high : float
        Confidence interval of the exponent; NaN for two sizes, infinite where ci is 1.
    ci : float
        Its coverage.
    intercept : float
        ``log c``.
    n_sizes : int
        Different sizes in the fit.
    """

    exponent: float
    se: float
    low: float
    high: float
    ci: float
    intercept: float
    n_sizes: int

    def __str__(self) -> str:
        return (
            f"error ~ n^({-self.exponent:.3g}) (se {self.se:.2g}, {self.ci:.0%} interval {self.low:.3g} "
            f"to {self.high:.3g}, {self.n_sizes} sizes)"
        )


@checked
def learning_curve_exponent(
    n: Any, error: Any, n_min: int | float | None = None, *, ci: float = 0.95
) -> LearningCurve:
    """Fit ``log error = log c - b log n``.

    Parameters
    ----------
    n : array-like, shape (m,)
        Training samples; sizes may repeat, with other seeds.
    error : array-like, shape (m,)
        Positive; subtract an irreducible error first, if it is known.
    n_min : float, optional
        Sizes below it are left out.

    Raises
    ------
    ValueError
        Numbers that are masked or not positive and finite, different lengths, or fewer than two sizes.
    """
    check_in_range(ci, "ci", low=0.0, high=1.0)
    sizes, errors = (
        computable(values, name).detach().double().cpu().numpy()
        for values, name in ((n, "n"), (error, "error"))
    )
    if sizes.ndim != 1 or sizes.shape != errors.shape:
        raise ValueError(f"n and error must be 1-D and alike, got shapes {sizes.shape} and {errors.shape}")
    for name, values in (("n", sizes), ("error", errors)):
        bad = values[~(np.isfinite(values) & (values > 0))]
        if len(bad):
            raise ValueError(f"{name} must be positive and finite: a power law has no zeros; got {bad[0]}")
    kept = sizes >= (0.0 if n_min is None else n_min)
    different, place = np.unique(sizes[kept], return_inverse=True)
    k = len(different)
    if k < 2:
        raise ValueError(f"n must hold at least two different sizes, got {k} (none below n_min counts)")
    log_n, log_error = np.log(different), np.bincount(place, np.log(errors[kept])) / np.bincount(place)
    x = log_n - log_n.mean()
    spread = float(x @ x)
    b = -float(x @ log_error) / spread
    intercept = float(log_error.mean() + b * log_n.mean())
    residual = log_error - intercept + b * log_n
    se = low = high = math.nan
    if k > 2:
        leverage = 1 / k + x**2 / spread
        se = math.sqrt(float(np.sum((x * residual / (1 - leverage)) ** 2))) / spread
        half = float(stats.t.ppf((1 + ci) / 2, k - 2)) * se
        low, high = b - half, b + half
    return LearningCurve(b, se, low, high, ci, intercept, k)
