"""Bandwidths: leave-one-out, cross-validation, nearest neighbours, theory, and the textbook's rules.

- ``"loo"`` maximises ``L(h) = mean_q log rho_h^{(-q)}(x_q)``, q being left out of its own density by its index. At the
  maximum of a Gaussian kernel ``h^2 = mean_q sum_i p_i |x_q - y_i|^2 / d``, hence h is never below the next rule's.
- ``"nn"``: root-mean-square distance to the nearest neighbour over sqrt(d), the limit of that in the condensed regime.
- ``"gaussian"``: :func:`~lodim.geometry.high_dimensional_kde.theory.kde_theory` at the sample covariance's eigenvalues.
- ``"cv"``: five folds instead of leaving one out.
- ``"scott"`` and ``"silverman"``: ``sigma n^(-1/(d+4))``, times ``((d+2)/4)^(-1/(d+4))``; sigma the root mean
  variance of the columns.

- ``"auto"``: ``"loo"`` up to 200,000 distinct rows, ``"nn"`` above.

All curves are taken on a geometric grid of bandwidths in one pass, then on a finer one around the best, whose top is
read off a parabola in log h. The grid begins at a quarter of the ``"nn"`` rule, or lower: at half of what that rule
would be if every distance were the lowest decile of the nearest ones. In few dimensions, and where the density varies,
the root mean square is that of the far points, and all bandwidths above a quarter of it are beyond the threshold. What
is added goes no lower than double precision can tell distances apart: rows that repeat up to rounding have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from lodim.geometry.high_dimensional_kde.kernels import (
    COMPACT,
    least_bandwidth,
    log_norm,
    log_sums,
    pass_dtype,
    rms_radius,
    tail_power,
)
from lodim.neighbors import LogSumExp, TopK, pair_distances, stream_pairs

RULES = ("auto", "loo", "nn", "gaussian", "cv", "scott", "silverman")
MOST_FOR_LOO = 200_000  # distinct rows
_STEP = 2**0.25  # of the grid: the squared kernel's bandwidths h / sqrt(2) (h / 2) are grid points too
_FOLDS = 5
_BULK = 0.9  # share of the points whose distances must have their digits: far ones would forbid all small bandwidths
_SHARES = (0.3, 0.7)  # the range of Y2 in which the threshold is measured


@dataclass(frozen=True)
class Points:
    """The points of an estimate in the coordinates it works in, with their weights (ones where all are alike).

    ``queries`` are the rows to try bandwidths on, and ``scales`` (n,) factors of the bandwidth at every point.
    """

    rows: Float[Tensor, "n d"]
    weights: Float[np.ndarray, " n"]
    kernel: str
    block_size: int
    queries: np.ndarray
    scales: np.ndarray | None = None

    @property
    def d(self) -> int:
        """Dimensions."""
        return self.rows.shape[1]

    @property
    def own_weights(self) -> np.ndarray | None:
        """The weights, None where they are ones: sums without them are faster."""
        return None if (self.weights == 1).all() else self.weights

    @property
    def n_effective(self) -> float:
        """``(sum w)^2 / sum w^2``: the number of points where the weights are equal."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    def mean_over_queries(self, values: Float[np.ndarray, "n_q ..."]) -> Any:
        """Average over the queries by their weights."""
        return np.average(values, axis=0, weights=self.weights[self.queries])


@dataclass(frozen=True)
class Curves:
    """What one pass tells about the points, for all bandwidths of a grid.

    Attributes
    ----------
    loo : ndarray, shape (n_h,)
        Mean leave-one-out log density.
    y2 : ndarray, shape (n_h,)
        Mean sum of squared shares; NaN for kernels of bounded support, and at the lowest few bandwidths.
    h_nn : float
        Root-mean-square distance to the nearest neighbour over sqrt(d) (times the kernel's factor).
    """

    h: Float[np.ndarray, " n_h"]
    loo: np.ndarray
    y2: np.ndarray
    h_nn: float

    @property
    def is_bound(self) -> bool:
        """Whether several points share a value at every bandwidth (many equal distances)."""
        known = self.y2[np.isfinite(self.y2)]
        return bool(len(known) and known.max() <= _SHARES[0])

    def condensation(self, power: int) -> float:
        """Threshold h_G that the curve of shares points to: median of ``(h^q / (1 - Y2))^(1/q)`` for Y2 in (.3, .7).

        The lowest bandwidth, an upper bound, where Y2 is below that range at all of them (see :attr:`is_bound`); NaN
        where it is above it at all.
        """
        known = np.isfinite(self.y2)
        if known.sum() < 2:
            return math.nan
        if self.is_bound:
            return float(self.h[known][0])
        h = np.geomspace(self.h[known][0], self.h[known][-1], 2000)
        y2 = PchipInterpolator(np.log(self.h[known]), self.y2[known])(np.log(h))
        inside = (y2 > _SHARES[0]) & (y2 < _SHARES[1])
        return (
            float(np.median(h[inside] ** power / (1 - y2[inside]))) ** (1 / power)
            if inside.any()
            else math.nan
        )


def _factor(points: Points) -> float:
    """From a Gaussian kernel's bandwidth to this kernel's, at equal root-mean-square radius."""
    return math.sqrt(points.d) / rms_radius(points.kernel, points.d)


def carried_over(points: Points, h: float) -> float:
    """Return the bandwidth at which the points' kernel is as wide as a Gaussian one of bandwidth ``h``."""
    return _factor(points) * h


def nearest_distances(points: Points) -> Float[np.ndarray, " n_q"]:
    """Distance of every query to its nearest other point, exact in double precision."""
    candidates = min(4, len(points.rows) - 1)
    ((_, idx),) = stream_pairs(points.rows, reducers=[TopK(candidates)], query_idx=points.queries)
    exact = pair_distances(
        points.rows.cpu().numpy(), points.queries, idx.cpu().numpy(), device=points.rows.device
    )
    return exact.min(1)


def root_mean_variance(points: Points) -> float:
    """Square root of the columns' mean (weighted) variance."""
    rows = points.rows.cpu().numpy()
    mean = np.average(rows, axis=0, weights=points.weights)
    return float(np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=points.weights).mean()))


def leave_one_out(points: Points, bandwidths: Float[np.ndarray, " n_h"]) -> Float[np.ndarray, " n_h"]:
    """Mean log density of the queries, each without itself, at every bandwidth."""
    sums = log_sums(
        points.queries, points.rows, bandwidths, kernel=points.kernel, scales=points.scales,
        weights=points.own_weights, block_size=points.block_size,
    ).cpu().numpy()  # fmt: skip
    return _log_density(points, sums, bandwidths, _weight_of_others(points))


def _weight_of_others(points: Points) -> np.ndarray:
    """Of all points but the query itself, for every query."""
    return points.weights.sum() - points.weights[points.queries]


def _log_density(points: Points, sums: np.ndarray, bandwidths: np.ndarray, total: np.ndarray) -> np.ndarray:
    each = sums - np.log(total)[:, None]
    return points.mean_over_queries(each) - log_norm(points.kernel, points.d) - points.d * np.log(bandwidths)


def cross_validated(
    points: Points, bandwidths: Float[np.ndarray, " n_h"], rng: np.random.Generator
) -> Float[np.ndarray, " n_h"]:
    """Mean log density of the queries under the points of the other folds, at every bandwidth."""
    n = len(points.rows)
    fold = rng.permutation(n) % min(_FOLDS, n)
    sums, total = np.empty((len(points.queries), len(bandwidths))), np.empty(len(points.queries))
    for f in np.unique(fold[points.queries]):
        mine, rest = fold[points.queries] == f, np.flatnonzero(fold != f)
        sums[mine] = log_sums(
            points.rows[points.queries[mine]], points.rows[rest], bandwidths, kernel=points.kernel,
            weights=points.weights[rest], block_size=points.block_size,
            scales=None if points.scales is None else points.scales[rest],
        ).cpu().numpy()  # fmt: skip
        total[mine] = points.weights[rest].sum()
    return _log_density(points, sums, bandwidths, total)


def _grid(points: Points, nearest: np.ndarray, h_nn: float, top: float) -> np.ndarray:
    """Geometric grid up to ``top`` that contains ``h_nn / 4`` and begins there or lower (module's docstring)."""
    low = h_nn / 4 if points.kernel not in COMPACT else h_nn
    below = 0
    if points.kernel not in COMPACT:
        bulk = _factor(points) * float(np.quantile(nearest[nearest > 0], 0.1)) / math.sqrt(points.d)
        floor = least_bandwidth(points.rows, torch.float64, _BULK)
        below = max(0, math.ceil(math.log(2 * low / bulk, _STEP)))
        below = min(below, max(0, math.floor(math.log(low / max(floor, np.finfo(float).tiny), _STEP))))
    return low * _STEP ** np.arange(-below, math.ceil(math.log(top / low, _STEP)) + 1)


def survey(points: Points) -> Curves:
    """One pass over all pairs of queries and points: leave-one-out likelihood and shares on a grid of bandwidths."""
    nearest = nearest_distances(points)
    factor, d = _factor(points), points.d
    h_nn = factor * float(np.sqrt(points.mean_over_queries(nearest**2) / d))
    if h_nn == 0:
        raise ValueError("all points have a neighbour at distance 0 in double precision; rescale X")
    top = 4 * max(h_nn, factor * root_mean_variance(points))
    if points.kernel in COMPACT:
        top = max(top, 2 * float(nearest.max()))
    grid = _grid(points, nearest, h_nn, top)
    power = tail_power(points.kernel)
    if power is None or points.scales is not None:
        return Curves(grid, leave_one_out(points, grid), np.full(len(grid), np.nan), h_nn)
    w = points.own_weights
    columns = None if w is None else np.stack([w, w**2], 1)
    reducer = LogSumExp(grid, kernel=points.kernel, weights=columns)
    (sums,) = stream_pairs(
        points.rows, reducers=[reducer], query_idx=points.queries, block_q=points.block_size,
        block_r=points.block_size, dtype=pass_dtype(points.rows, len(points.queries), len(points.rows), grid[0]),
    )  # fmt: skip
    found = sums.cpu().numpy()
    first, second = (found, found) if w is None else (found[..., 0], found[..., 1])
    shift = 4 // power  # grid steps from h to the squared kernel's bandwidth
    y2 = np.full(len(grid), np.nan)
    y2[shift:] = points.mean_over_queries(np.exp(second[:, :-shift] - 2 * first[:, shift:]))
    return Curves(grid, _log_density(points, first, grid, _weight_of_others(points)), y2, h_nn)


def maximise(curve: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, values: np.ndarray) -> float:
    """Bandwidth of a curve's maximum: the best of a grid, a finer grid around it, and a parabola in log h.

    The grid is geometric and ascending; infinities and NaN are no maximum.
    """
    best = _highest(values)
    fine = np.geomspace(grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)], 9)
    on_fine = curve(fine)
    top = _highest(on_fine)
    if not 0 < top < len(fine) - 1 or not np.isfinite(on_fine[top - 1 : top + 2]).all():
        return float(fine[top])
    before, at, after = on_fine[top - 1 : top + 2]
    curvature = before - 2 * at + after
    step = math.log(fine[1] / fine[0])
    return (
        float(fine[top] * math.exp(step * 0.5 * (before - after) / curvature))
        if curvature < 0
        else float(fine[top])
    )


def _highest(values: np.ndarray) -> int:
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


def classical(points: Points, rule: str) -> float:
    """Scott's or Silverman's rule, in the columns' root mean standard deviation."""
    n, d = points.n_effective, points.d
    if rule == "silverman":
        n *= (d + 2) / 4
    return _factor(points) * root_mean_variance(points) * n ** (-1 / (d + 4))


def spectrum_of(points: Points) -> Float[np.ndarray, " d"]:
    """Eigenvalues of the (weighted) sample covariance."""
    rows: Any = points.rows.cpu().numpy()
    covariance = np.atleast_2d(np.cov(rows, rowvar=False, aweights=points.weights, bias=True))
    return np.linalg.eigvalsh(covariance).clip(min=0)  # rounding leaves some just below zero
