"""What the calibrated dimension sees of a data set: numbers free of scale from the distances to nearest neighbours.

All of them are functions of ``log r_j``, the number of points n and the number of queries. The first answer, the
*base*, is the mean of the logarithms of two estimators calibrated on the uniform ball (TwoNN and the MLE of 20
neighbours; Gride in its place where there are only five). Every feature that is the logarithm of a dimension (but
for the pair counts) enters as its difference to the base, so that the rest need only be learnt once for all dimensions.

In a Poisson process of constant density all but the base would be constants. What moves them is what moves the
estimators: the density (spread and shape of ``log r_k``; estimates where it is high and where it is low), the boundary,
curvature and noise (estimates against the number of neighbours), and the number of points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.dimension.calibration import calibrate
from lodim.dimension.methods import CONSENSUS_K
from lodim.dimension.nearest import gride, l2n2, twonn_mle

ORDERS = CONSENSUS_K  # neighbours that the three machines look at
_RANGES = {64: (5, 10, 20, 40, 64), 20: (5, 10, 20), 5: (3, 5)}
_TABLED = (32, 10_000_000)  # points for which the relation to the ball is shipped
_BEFORE_STEPS, _OF_A_STEP = 7, 9  # features before the first step between neighbours, and of each
_QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


@dataclass(frozen=True)
class Features:
    """Features of a data set seen by ``order`` neighbours, and the base, the logarithm of a dimension."""

    values: Float[np.ndarray, " n_features"]
    base: float
    order: int


def scale_gap(values: Float[np.ndarray, "*sets n_features"], order: int) -> Any:
    """Log-dimension between the farthest neighbours less that between the nearest two, of features."""
    steps = order.bit_length() - 1
    return values[..., _BEFORE_STEPS + _OF_A_STEP * (steps - 1)] - values[..., _BEFORE_STEPS]


def order_for(n: int, k: int) -> int:
    """Neighbours to look at among n points of which k neighbours are known: at most a third of the points; 0 if few."""
    return next((order for order in ORDERS if order <= k and (3 * order <= n or order == ORDERS[-1])), 0)


def features(dist: Float[np.ndarray, "n_queries k"], n: int, order: int) -> Features | None:
    """Features of the nearest ``order`` of the positive distances from queries among n points.

    None where a distance is zero, or where they tie so that a log-dimension is infinite.
    """
    if not (dist[:, 0] > 0).all():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _features(np.log(dist[:, :order]), n, order)
    return found if found is not None and np.isfinite(found.values).all() else None


def _features(L: np.ndarray, n: int, order: int) -> Features | None:
    first = L[:, 1] - L[:, 0]
    sums = L.cumsum(1)
    inverse = {k: ((k - 1) * L[:, k - 1] - sums[:, k - 2]) / (k - 1) for k in _RANGES[order]}
    n_known = int(np.clip(n, *_TABLED))
    twonn = _log_on_ball(twonn_mle(first), "twonn", n_known, 2)
    other = gride(L[:, 3] - L[:, 1], 2, 4)[0] if order < 20 else float(np.reciprocal(inverse[20].mean()))
    base = (twonn + _log_on_ball(other, *(("gride", n_known, 4) if order < 20 else ("mle", n_known, 20)))) / 2
    if not math.isfinite(base):
        return None
    d = math.exp(base)
    row = np.argsort(L[:, -1], kind="stable")
    quarters = np.array_split(row, 4)  # from the densest points to the sparsest
    found: list[float] = [
        base,
        math.log(n),
        math.log(len(L)),
        math.log(n) / d,
        base / math.log(n),
        twonn - base,
    ]
    found.append(math.log(l2n2(first)) - base)
    m = 1
    while 2 * m <= order:
        found += _step(L[:, 2 * m - 1] - L[:, m - 1], m, base, quarters)
        found += _of_means(L, m, base)
        m *= 2
    for values in inverse.values():
        found += _distribution(values, base, quarters)
        found.append(_correlation(values, L[:, -1]))
    found += _density(L[:, -1], d) + _density(L[:, 0], d)
    half = order // 2
    inner = inverse[_RANGES[order][0]]
    outer = order * L[:, -1] - half * L[:, half - 1] - (sums[:, -1] - sums[:, half - 1])
    found.append(_correlation(inner, outer))
    found += _pair_counts(L, d)
    return Features(np.array(found), base, order)


def _log_on_ball(raw: float, method: str, n: int, k: int) -> float:
    if not 0 < raw < math.inf:
        return math.inf
    return float(np.log(calibrate(np.array(raw), method, n, k)))


def _step(l: np.ndarray, m: int, base: float, quarters: list[np.ndarray]) -> list[float]:
    """Of ``log r_2m/r_m``: the dimension of its mean, its shape, and its mean from dense to sparse."""
    mean = float(l.mean())
    harmonic = float((1 / np.arange(m, 2 * m)).sum())
    parts = [math.log(max(float(l[q].mean()), 1e-12 * mean) / mean) for q in quarters]
    return [
        math.log(harmonic / mean) - base,
        math.log(max(float(np.median(l)), 1e-12 * mean) / mean),
        math.log(max(float(l.std()), 1e-12 * mean) / mean),
        *parts,
    ]


def _of_means(L: np.ndarray, m: int, base: float) -> list[float]:
    """Dimensions from how the mean distance grows with its order, far and near points weighing most in turn."""
    top = float(L.max())
    found = []
    for power in (-1, 1):
        near, far = (math.log(float(np.exp(power * (L[:, j - 1] - top)).mean())) / power for j in (m, 2 * m))
        found.append(math.log(math.log(2) / max(far - near, 1e-12)) - base)
    return found


def _distribution(inverse: np.ndarray, base: float, quarters: list[np.ndarray]) -> list[float]:
    """Of the inverse local dimensions: the dimension of their mean, their spread, skewness and quantiles."""
    mean = float(inverse.mean())
    scaled = inverse / mean
    spread = max(float(scaled.std()), 1e-12)
    skewness = float((((scaled - 1) / spread) ** 3).mean())
    quantiles = np.log(np.maximum(np.quantile(scaled, _QUANTILES), 1e-12))
    parts = [math.log(max(float(scaled[q].mean()), 1e-12)) for q in quarters]
    return [-math.log(mean) - base, math.log(spread), math.asinh(skewness), *quantiles, *parts]


def _density(L: np.ndarray, d: float) -> list[float]:
    """Of the logarithms of a ball's volume with a given number of points: spread, skewness, tails."""
    centred = d * (L - L.mean())
    spread = max(float(centred.std()), 1e-12)
    shape = centred / spread
    moments = [math.asinh(float((shape**3).mean())), math.asinh(float((shape**4).mean()))]
    return [math.log(spread), *moments, *np.quantile(shape, _QUANTILES)]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else 0.0


def _pair_counts(L: np.ndarray, d: float) -> list[float]:
    """Logs of the slopes of pair counts over radii within which most points' neighbours are nearly all known."""
    found = []
    for share in (0.05, 0.25, 0.5):
        radius = float(np.quantile(L[:, -1], share))
        outer, inner = (
            max(float(np.count_nonzero(radius - shrink / d >= L)) / len(L), 1e-6) for shrink in (0.0, 1.5)
        )
        found.append(math.log(max(math.log(outer / inner), 1e-6) * d / 1.5))
    return found
