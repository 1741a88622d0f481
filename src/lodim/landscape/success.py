r"""Where runs that succeed or fail begin to succeed more often than not.

Runs at sizes :math:`d_j`, of which :math:`k_j` out of :math:`n_j` solved the problem. The probability of success is
modelled as a rising logistic curve,

.. math:: p(d) = 1 / (1 + e^{-b (\log d - a)}), \qquad b > 0,

whose crossing of 1/2 is :math:`e^a`. The likelihood carries Jeffreys' penalty (half the log-determinant of the
information; D. Firth, "Bias reduction of maximum likelihood estimates", 1993), so that it has a maximum also when
failures and successes separate. The interval holds every crossing that the likelihood-ratio test, at its profile over
the slopes, does not refute.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.special import log_expit

__all__ = ["logistic_crossing"]

_CROSSINGS, _SLOPES = 801, 90


def _profile_likelihood(
    x: Float[np.ndarray, " m"],
    k: Int[np.ndarray, " m"],
    n: Float[np.ndarray, " m"],
    a: Float[np.ndarray, " c"],
) -> Float[np.ndarray, " c"]:
    """Best penalised log-likelihood of a rising logistic curve for each crossing ``a``, over its slopes."""
    span = max(float(x[-1] - x[0]), 1e-9)
    slope = np.geomspace(0.3 / span, 60 * len(x) / span, _SLOPES)[None, :, None]
    logit = slope * (x - a[:, None, None])
    up = log_expit(logit)
    down = up - logit
    information = n * np.exp(up + down)  # of each size, in the logit
    s0, s1, s2 = (np.sum(information * x**p, axis=-1) for p in range(3))
    jeffreys = 0.5 * np.log(np.maximum(s0 * s2 - s1**2, 1e-300))
    return (np.sum(k * up + (n - k) * down, axis=-1) + jeffreys).max(axis=1)


def logistic_crossing(
    sizes: Float[np.ndarray, " m"],
    successes: Int[np.ndarray, " m"],
    trials: Float[np.ndarray, " m"],
    *,
    ci: float = 0.95,
) -> tuple[float, tuple[float, float]]:
    """Fit the curve to rising sizes, with runs that succeeded and that failed; return its crossing of 1/2 and interval.

    Zero stands for below the least size, infinity for beyond the largest.
    """
    x = np.log(sizes)
    span = x[-1] - x[0]
    a = np.linspace(x[0] - 0.5 * span, x[-1] + 0.5 * span, _CROSSINGS)
    likelihood = _profile_likelihood(x, successes, trials, a)
    kept = a[likelihood >= likelihood.max() - stats.chi2.ppf(ci, 1) / 2]

    def size(crossing: float) -> float:
        if crossing < x[0]:
            return 0.0
        return math.exp(crossing) if crossing <= x[-1] else math.inf

    return size(float(a[likelihood.argmax()])), (size(float(kept[0])), size(float(kept[-1])))
