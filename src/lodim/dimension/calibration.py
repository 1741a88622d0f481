"""What an estimator answers on a uniform ball of known dimension, and that relation inverted.

With n points every neighbour estimator answers too low a dimension: neighbourhoods reach the boundary, where half of
each ball is empty. ``calibrate`` returns the d for which the estimator, applied to n uniform points of the d-ball,
answers the same.

No point needs to be searched for that. For a query at distance ``rho`` from the centre, a uniform point of the unit
ball lies within r with probability F(r), the volume of a lens of two balls, made of two caps:

    F(r) = cap(c) + r^d cap((rho - c)/r),  c = (rho^2 + 1 - r^2) / (2 rho);  F(r) = r^d while r <= 1 - rho,

``cap(t) = I_{1-t^2}((d+1)/2, 1/2) / 2`` being the share of a unit ball beyond a plane at height t (I is the
regularised incomplete beta function). The distances to the k nearest of n - 1 points are ``F^{-1}`` of the k smallest
of n - 1 uniform numbers, which are partial sums of exponential ones over their total. So the cost does not depend on
n, and the relation is exact for every n up to the Monte-Carlo error of the queries drawn (below half a per cent).
For the estimators at their own k and up to ten million points the relation is shipped
(:mod:`lodim.dimension.ball_tables`); anything else is computed when first needed and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import betainc, gammaincinv

from lodim.dimension.ball_tables import ball_answers, ball_dimensions
from lodim.dimension.methods import GRAPH_METHODS
from lodim.validation import check_choice, check_in_range

_STRATA = 32
_GRID = 160
_SEED = 20240108


def _cap(t: np.ndarray, d: int | float) -> np.ndarray:
    t = np.clip(t, -1, 1)
    half = betainc((d + 1) / 2, 0.5, 1 - t**2) / 2
    return np.where(t >= 0, half, 1 - half)


def _within(r: np.ndarray, rho: np.ndarray, d: int | float) -> np.ndarray:
    """Share of the unit d-ball within r of a point at distance rho from its centre."""
    c = (rho**2 + 1 - r**2) / (2 * rho)
    lens = _cap(c, d) + r**d * _cap((rho - c) / r, d)
    return np.where(r <= 1 - rho, r**d, np.where(r >= 1 + rho, 1.0, lens))


def _radius_of(share: int | float, rho: np.ndarray, d: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the r with ``_within(r) = share`` for every rho, by bisection of log r."""
    low = np.full_like(rho, math.log(share) / d)  # F(r) <= r^d
    high = np.log1p(rho)
    for _ in range(20):
        middle = (low + high) / 2
        above = _within(np.exp(middle), rho, d) > share
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return low, high


@lru_cache(maxsize=16)
def _uniform_order_statistics(n: int, k: int, m: int) -> np.ndarray:
    """The k smallest of n - 1 uniform numbers, m times: shape (m, k)."""
    rng = np.random.default_rng(_SEED)
    sums = rng.exponential(size=(m, k)).cumsum(1)
    rest = gammaincinv(
        n - k, rng.random((m, 1))
    )  # by its quantiles, so that the draws change smoothly with n
    return sums / (sums[:, -1:] + rest)


def stratified_radii(d: int | float) -> Float[np.ndarray, " strata"]:
    """Distances from the centre at which :func:`ball_distances` puts its queries, equally many at each."""
    return ((np.arange(_STRATA) + 0.5) / _STRATA) ** (1 / d)


def ball_distances(d: int | float, n: int, k: int, m: int) -> Float[np.ndarray, "m k"]:
    """Draw the distances from uniform queries to their k nearest among n uniform points (with the query) of the d-ball.

    m is rounded up to a multiple of 32; the same arguments always give the same draw.
    """
    repeats = -(-m // _STRATA)
    u = _uniform_order_statistics(n, k, repeats * _STRATA).reshape(_STRATA, repeats, k)
    rho = stratified_radii(d)
    (start, _), (_, end) = (_radius_of(float(share), rho, d) for share in (u.min(), u.max()))
    grid = start[:, None] + (end - start)[:, None] * np.linspace(0, 1, _GRID)
    log_share = np.log(_within(np.exp(grid), rho[:, None], d))
    log_u = np.log(u)
    log_r = [np.interp(log_u[s], log_share[s], grid[s]) for s in range(_STRATA)]
    return np.exp(np.concatenate(log_r))


def draws_for(k: int) -> int:
    """Queries that an expectation is taken over."""
    return max(1 << 12, (1 << 17) // k)


@lru_cache(maxsize=4096)
def expected_on_ball(method: str, d: int, n: int, k: int, aggregate: str | None = None) -> float:
    """What an estimator of :data:`lodim.dimension.methods.GRAPH_METHODS` answers on n uniform points of the d-ball."""
    chosen = GRAPH_METHODS[method]
    return chosen.combine(chosen.contributions(ball_distances(d, n, k, draws_for(k)), k), k, aggregate)


def calibrate(
    values: Float[np.ndarray, " *shape"] | int | float,
    method: str,
    n: int,
    k: int,
    aggregate: str | None = None,
) -> Float[np.ndarray, " *shape"]:
    """Dimension of the ball on which the estimator answers ``values``, by monotone interpolation.

    Below d = 1 and above d = 500 the ratio at that end is used. NaN and infinity stay.
    """
    check_choice(method, tuple(GRAPH_METHODS), "method")
    check_in_range(n, "n", low=k + 1, integer=True)
    wanted = np.asarray(values, dtype=np.float64)
    finite = wanted[np.isfinite(wanted)]
    if not finite.size:
        return wanted.copy()
    shipped = ball_answers(method, n, k) if aggregate is None else None
    if shipped is not None:
        d, answers = np.array(ball_dimensions()), _increasing(shipped)
    else:
        table = _table(
            lambda d: expected_on_ball(method, d, n, k, aggregate), float(finite.min()), float(finite.max())
        )
        d, answers = np.array(list(table)), np.array(list(table.values()))
    out = wanted.copy()
    inside = np.isfinite(wanted)
    x = wanted[inside]
    y = np.exp(np.interp(np.log(np.maximum(x, 1e-300)), np.log(answers), np.log(d)))
    y = np.where(x < answers[0], x * d[0] / answers[0], np.where(x > answers[-1], x * d[-1] / answers[-1], y))
    out[inside] = y
    return out


def _table(answer: Callable[[int], float], low: float, high: float) -> dict[int, float]:
    """Dimensions and answers around [low, high], as few as a search needs; answers made monotone."""
    dims = ball_dimensions()
    start, end = max(_first_above(low, answer, dims) - 1, 0), _first_above(high, answer, dims)
    chosen = dims[start : end + 1]
    return dict(zip(chosen, _increasing(np.array([answer(d) for d in chosen])).tolist()))


def _first_above(value: float, answer: Callable[[int], float], dims: tuple[int, ...]) -> int:
    """Position of the first dimension whose answer is not below ``value``, or of the last one."""
    i = int(np.searchsorted(dims[:-1], value))  # most estimators answer a little less than d
    while i < len(dims) - 1 and answer(dims[i]) < value:
        i += 1
    while i > 0 and answer(dims[i - 1]) >= value:
        i -= 1
    return i


def _increasing(answers: np.ndarray) -> np.ndarray:
    """Strictly increasing, for the interpolation."""
    return np.maximum.accumulate(answers) * (1 + 1e-12 * np.arange(len(answers)))
