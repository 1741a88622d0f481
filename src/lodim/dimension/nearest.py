"""Estimators that are closed forms (or one root) of the distances to the nearest neighbours.

If points fall with constant density on a d-dimensional ball around x, the share of them nearer than r is r^d, so
``u_j = r_j^d`` are the order statistics of uniform numbers: every estimator below solves that for d.

============== ======================================= ==================================================
in the papers  here                                    meaning
============== ======================================= ==================================================
r_j            ``dist[:, j - 1]``                      distance to the j-th neighbour, r_1 <= r_2 <= ...
mu             ``exp(l)``, ``l = log_ratios(...)``     r_{n2} / r_{n1} at each point
N              ``len(l)``                              query points
f              ``discard``                             share of the largest ratios left out (TwoNN)
n_1, n_2       ``n1``, ``n2``                          orders of the two neighbours (Gride)
rho, k         ``1 / mu``, ``n2 - 1``                  r_1 / r_{k+1} and k of MiND-ML
============== ======================================= ==================================================

- TwoNN (Facco 2017, arXiv 1803.06992): mu = r_2/r_1 is Pareto with exponent d. :func:`twonn_fit` is the paper's line
  through the origin, :func:`twonn_mle` the maximum likelihood of a sample whose largest ratios are censored:
  ``(K - 1) / (sum_{i<=K} l_(i) + (N - K) l_(K))``.
- L2N2 (Ong 2026, arXiv 2603.10493): log mu is exponential with rate d, so E log log mu = -log d - gamma, whatever the
  density; its abstract's "loglog" estimator with Euler's constant as the correction that this law demands.
- Gride (Denti 2022, arXiv 2104.13832): ``1/d + (n2-n1-1) l / (1 - e^{-dl}) = (n2-1) l`` summed over points.
  MiND-ML (Rozza 2012) maximises the likelihood of r_1/r_{k+1}, which is Gride's with n1 = 1 and n2 = k + 1.
- MLE (Levina and Bickel 2004): ``(k-1) / sum_{j<k} log(r_k/r_j)`` at each point; k - 2 makes it unbiased; MacKay and
  Ghahramani (2005) average the inverses, which is the default.
- MOM (Amsaleg 2018): ``m / (r_k - m)``, m the mean of r_1 ... r_k. MADA (Farahmand 2007):
  ``log 2 / log(r_k / r_{k/2})``.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

TIE = 1e-11  # relative difference of distances that rounding makes of none


def log_ratios(dist: Float[np.ndarray, "n k"], n1: int = 1, n2: int = 2) -> Float[np.ndarray, " n"]:
    """Return ``log(r_{n2} / r_{n1})`` at each point, from positive ascending distances; zero where they tie."""
    if not 1 <= n1 < n2 <= dist.shape[1]:
        raise ValueError(f"need 1 <= n1 < n2 <= {dist.shape[1]} neighbours, got n1={n1}, n2={n2}")
    ratios = np.log(dist[:, n2 - 1] / dist[:, n1 - 1])
    return np.where(ratios > TIE, ratios, 0.0)


def _reciprocal(total: float, count: int | float) -> float:
    return count / total if total > 0 else math.inf


def twonn_mle(l: Float[np.ndarray, " n"], discard: int | float = 0.1) -> float:
    """TwoNN by maximum likelihood, the ``discard`` largest share of ratios censored (infinite if all distances tie)."""
    kept = max(2, math.floor((1 - discard) * len(l)))
    ordered = np.sort(l)
    return _reciprocal(float(ordered[:kept].sum() + (len(l) - kept) * ordered[kept - 1]), kept - 1)


def l2n2(l: Float[np.ndarray, " n"]) -> float:
    """L2N2, ``exp(-mean(log log mu) - gamma)`` of the ratios that are above 1 (infinite if there are none)."""
    apart = l[l > 0]
    return math.exp(-float(np.log(apart).mean()) - float(np.euler_gamma)) if len(apart) else math.inf


def twonn_fit(l: Float[np.ndarray, " n"], discard: int | float = 0.1) -> float:
    """TwoNN by the slope through the origin of ``-log(1 - i/N)`` on the i-th smallest ``log mu``, save the largest."""
    kept = max(2, math.floor((1 - discard) * len(l)))
    kept = min(kept, len(l) - 1)  # the last point of the empirical distribution has -log 0
    x = np.sort(l)[:kept]
    y = -np.log1p(-np.arange(1, kept + 1) / len(l))
    return _reciprocal(float(x @ x), float(x @ y))


def gride(l: Float[np.ndarray, " n"], n1: int, n2: int) -> tuple[float, float]:
    """Gride's maximum-likelihood dimension and its standard error ``1 / sqrt(-score')``."""
    n, total, between = len(l), float(l.sum()), n2 - n1 - 1
    if total <= 0:
        return math.inf, math.inf

    # The derivative of the log-likelihood by log d; a resampled interval asks for it thousands of times.
    score = lambda log_d: (  # noqa: E731
        n + between * float(_limited(math.exp(log_d) * l).sum()) - (n2 - 1) * math.exp(log_d) * total
    )
    middle = math.log(n / total)
    d = math.exp(brentq(score, middle - 15, middle + 15, xtol=1e-13))
    x = d * l
    information = (n + between * float((_limited(x) ** 2 * np.exp(-x)).sum())) / d**2  # (x/2 / sinh(x/2))^2
    return d, information**-0.5


def _limited(x: np.ndarray) -> np.ndarray:
    """``x / (1 - e^{-x})``, 1 at zero."""
    x = np.maximum(x, 1e-300)
    limited: np.ndarray = x / -np.expm1(-x)
    return limited


def gride_pointwise(l: Float[np.ndarray, " n"], n1: int, n2: int) -> Float[np.ndarray, " n"]:
    """Gride at every point by itself: the score's root is a constant over ``l`` (infinite where l is zero)."""
    constant = gride(np.ones(1), n1, n2)[0]
    return divide(constant, l)


def mind_integer(l: Float[np.ndarray, " n"], k: int) -> float:
    """MiND-MLi: the whole dimension with the largest likelihood of ``r_1 / r_{k+1}``, at least 1.

    The likelihood is concave, so the best whole number is next to the best real one.
    """
    best = gride(l, 1, k + 1)[0]
    if not math.isfinite(best):
        return best

    def likelihood(d: int | float) -> float:
        shrunk = np.log(-np.expm1(-d * l[l > 0])).sum()
        return len(l) * math.log(k * d) - (d - 1) * float(l.sum()) + (k - 1) * float(shrunk)

    low = max(1.0, math.floor(best))
    return float(max((low, low + 1), key=likelihood))


def divide(a: np.ndarray | float, b: np.ndarray) -> np.ndarray:
    """``a / b``, infinite where b is zero."""
    return np.divide(a, b, out=np.full(len(b), np.inf), where=b > 0)


def levina_bickel(
    dist: Float[np.ndarray, "n k"], k: int, *, unbiased: bool = False
) -> Float[np.ndarray, " n"]:
    """Levina and Bickel's inverse dimension ``sum_{j<k} log(r_k/r_j) / (k-1)`` at each point."""
    least = 3 if unbiased else 2
    if not least <= k <= dist.shape[1]:
        raise ValueError(f"need {least} <= k <= {dist.shape[1]} neighbours, got k={k}")
    logs = np.log(dist[:, :k])
    mean = ((k - 1) * logs[:, -1] - logs[:, :-1].sum(1)) / (k - 2 if unbiased else k - 1)
    return np.where(mean > TIE, mean, 0.0)


def mom(dist: Float[np.ndarray, "n k"], k: int) -> Float[np.ndarray, " n"]:
    """Method of moments, ``m / (r_k - m)`` at each point (infinite where all k distances tie)."""
    mean = dist[:, :k].mean(1)
    gap = dist[:, k - 1] - mean
    return divide(mean, np.where(gap > TIE * mean, gap, 0.0))


def mada(dist: Float[np.ndarray, "n k"], k: int) -> Float[np.ndarray, " n"]:
    """Manifold-adaptive dimension, ``log 2 / log(r_k / r_{k/2})`` at each point, for even k."""
    half = (k + 1) // 2
    return divide(math.log(k / half), log_ratios(dist, half, k))
