r"""Where a noisy rising curve reaches a threshold: the least size that is good enough, with an interval.

Measuring an intrinsic dimension, a rank or a number of bits ends in the same question. Runs at sizes :math:`d_j` gave
scores; the score rises with the size, up to noise; which size reaches the threshold :math:`\tau`? Nothing here knows
what a run is.

**Isotonic** (default). The means :math:`\bar s_j` of the :math:`n_j` runs at each size are fitted by the closest
non-decreasing sequence in weighted least squares, which has the closed form

.. math:: f_j = \max_{a \le j} \min_{b \ge j} \frac{\sum_{i=a}^{b} n_i \bar s_i}{\sum_{i=a}^{b} n_i},

and the crossing is where the monotone cubic (PCHIP) through :math:`(\log d_j, f_j)` first reaches :math:`\tau`. (A
straight line between sizes a factor 2 apart puts the crossing of a steep logistic curve 8 % too high, the cubic 2 %.)
The interval is the percentile interval of the same estimate over bootstrap means
:math:`\bar s_j + \sigma_j z / \sqrt{n_j}`. Resampling three seeds as they are would understate the noise (the variance
of a resample is 2/3 of theirs on average), so each size's variance is shrunk towards the pooled one, and every
bootstrap replicate draws the scale of the noise from its scaled inverse :math:`\chi^2` distribution; ``ci_method``
says what was done. What the curve does between two sizes is unknown too: each replicate moves its crossing a random
part of the way between the cubic's and the straight line's, so that coarse sizes give wide intervals.

**First crossing**, the paper's: the first size whose mean exceeds the threshold; the interval is mean +- standard
deviation of the first crossings of bootstrap curves that take one run at random from each size. It is the minimum over
many noisy points, so it is biased low when the noise is large and the sizes lie close; prefer the isotonic one.

**Success probability**, where a run either solves the problem or does not: the crossing is where a logistic curve in
:math:`\log d`, fitted to the shares of successes, passes 1/2; see :mod:`lodim.landscape.success`.

=============================  ==============================================
here                           in the paper
=============================  ==============================================
``sizes``                      d, the subspace dimensions tried
``threshold``                  0.9 of the baseline's performance
``Crossing.value``             d_int90
=============================  ==============================================

Source: C. Li et al., "Measuring the Intrinsic Dimension of Objective Landscapes", 2018, arXiv 1804.08838 (first
crossing); the isotonic and the logistic estimators are this library's departure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from lodim.landscape.success import logistic_crossing
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_numbers, checked, warn

__all__ = ["Crossing", "find_crossing"]

ESTIMATORS = ("isotonic", "first_crossing", "success_probability")

_PRIOR_DOF = 4.0  # weight of the pooled variance against a size's own
_SLACK = 1e-12  # what rounding takes off the mean of equal scores, as a share of the threshold
_SHAPE_SD = 0.5  # how uncertain the curve's shape between two sizes is: sd in units of |line - cubic|
_MAX_BLOCK = 4_000_000  # numbers in one block of bootstrap averages


@dataclass(frozen=True)
class Crossing(Result):
    """Where the curve reaches the threshold.

    Attributes
    ----------
    value : float
        The crossing size (not rounded); infinity if it was not reached, NaN if every size reaches it.
    interval : tuple of float
        Its ends; 0 stands for "below the least size", infinity for "beyond the largest".
    status : str
        ``"found"``, ``"not_reached"`` or ``"below_min"``.
    bound : float
        What is known when nothing was found: the value is above (not reached) or at most (below the least) this size.
    method : str
        The estimator.
    ci : float
        Nominal coverage of the interval.
    ci_method : str
        How the interval was made, in words.
    """

    value: float
    interval: tuple[float, float]
    status: str
    bound: float
    threshold: float
    method: str
    ci: float
    ci_method: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.status == "found":
            low, high = self.interval
            return f"{self.value:.4g} [{low:.4g}, {high:.4g}] ({self.method}, {self.ci_method})"
        return f"{'> ' if self.status == 'not_reached' else '<= '}{self.bound:.4g} ({self.method})"


@dataclass(frozen=True)
class Curve:
    """Runs gathered by distinct rising sizes, what the estimators work on; larger scores are better."""

    sizes: Float[np.ndarray, " m"]
    runs: tuple[Float[np.ndarray, " _"], ...]

    @classmethod
    def from_runs(cls, sizes: Any, scores: Any, threshold: float = math.inf) -> Curve:
        """Gather runs by positive sizes; larger scores are better.

        A score that is not finite counts as a failure, below the threshold (:func:`score_of_failure`), with a
        warning. ValueError without runs or any finite score, and for lengths that differ or sizes that are not
        positive.
        """
        d, s = check_numbers(sizes, "sizes").ravel(), check_numbers(scores, "scores").ravel()
        if len(d) != len(s) or len(d) == 0:
            raise ValueError(f"sizes and scores must pair up, one of each a run; got {len(d)} and {len(s)}")
        if not (np.isfinite(d).all() and (d > 0).all()):
            raise ValueError(f"sizes must be positive and finite; got {d[~((d > 0) & np.isfinite(d))][0]}")
        failed = ~np.isfinite(s)
        if failed.all():
            raise ValueError("no run has a finite score; is the learning rate too large?")
        if failed.any():
            where = ", ".join(f"{v:g}" for v in np.unique(d[failed])[:5])
            warn(
                f"{int(failed.sum())} of {len(s)} runs have no finite score and count as failures (size {where})"
            )
            s = np.where(failed, score_of_failure(s, threshold), s)
        distinct, group = np.unique(d, return_inverse=True)
        return cls(distinct, tuple(s[group == j] for j in range(len(distinct))))

    @property
    def means(self) -> Float[np.ndarray, " m"]:
        """Mean score at each size."""
        return np.array([r.mean() for r in self.runs])

    @property
    def counts(self) -> Float[np.ndarray, " m"]:
        """Runs at each size."""
        return np.array([float(len(r)) for r in self.runs])

    def noise(self) -> tuple[Float[np.ndarray, " m"], float, str]:
        """Standard deviation of one run at each size, degrees of freedom behind it, and its provenance in words.

        With repeated runs anywhere, each size's variance is shrunk towards the pooled one. With one run a size, the
        noise is what neighbours do not predict: the residual of each mean from the line through the two beside it
        (which also takes curvature for noise, and so errs on the safe side).
        """
        dof = self.counts - 1
        if dof.sum() > 0:
            squares = np.array([((r - r.mean()) ** 2).sum() for r in self.runs])
            pooled = squares.sum() / dof.sum()
            variance = (squares + _PRIOR_DOF * pooled) / (dof + _PRIOR_DOF)
            return np.sqrt(variance), float(dof.sum()), "spread of the seeds, shrunk towards the pooled one"
        if len(self.sizes) < 3:
            return np.zeros(len(self.sizes)), 0.0, "noise unknown"
        x, y = np.log(self.sizes), self.means
        w = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
        residual = (y[1:-1] - w * y[:-2] - (1 - w) * y[2:]) / np.sqrt(1 + w**2 + (1 - w) ** 2)
        sd = math.sqrt(float((residual**2).mean()))
        return np.full(len(x), sd), float(len(residual)), "one run a size: pooled residual standard deviation"


def score_of_failure(scores: Float[np.ndarray, " n"], threshold: float) -> float:
    """Score that stands for a run without one: the worst finite score, and below the threshold in any case.

    Where even the worst score reaches the threshold, it is as far below as the best is above.
    """
    finite = scores[np.isfinite(scores)]
    worst = float(finite.min())
    if worst < threshold:
        return worst
    return threshold - max(float(finite.max()) - threshold, 1e-6 * max(1.0, abs(threshold)))


def isotonic_fit(
    values: Float[np.ndarray, "*batch m"], weights: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "*batch m"]:
    """Fit the closest non-decreasing sequences in weighted least squares, many at once.

    The max-min formula in O(m^2) a sequence: slower than pooling adjacent violators for one long sequence, far
    faster for a thousand short ones.
    """
    m = values.shape[-1]
    flat = values.reshape(-1, m)
    block = max(1, _MAX_BLOCK // m**2)
    total = np.concatenate([[0.0], np.cumsum(weights)])
    width = total[None, 1:] - total[:-1, None]  # width[a, b]: weight of the points a..b
    upper = np.triu(np.ones((m, m), dtype=bool))
    fits = np.empty_like(flat)
    for start in range(0, len(flat), block):
        part = flat[start : start + block]
        sums = np.concatenate([np.zeros((len(part), 1)), np.cumsum(part * weights, axis=1)], axis=1)
        means = sums[:, None, 1:] - sums[:, :-1, None]
        np.divide(means, width, out=means, where=upper)
        means[:, ~upper] = np.inf
        least = np.minimum.accumulate(means[..., ::-1], axis=2)[..., ::-1]
        fits[start : start + block] = np.where(upper, least, -np.inf).max(axis=1)
    return fits.reshape(values.shape)


def reachable(threshold: Any) -> Any:
    """Return what an isotonic fit must reach: the threshold, less than which a mean of equal scores may come out."""
    return threshold - _SLACK * np.maximum(1.0, np.abs(threshold))


def _first_reach(
    x: Float[np.ndarray, " m"],
    fits: Float[np.ndarray, "b m"],
    threshold: Float[np.ndarray, " b"],
    towards_line: Float[np.ndarray, " b"] | float = 0.0,
) -> Float[np.ndarray, " b"]:
    """Where each monotone cubic through (x, fit) first reaches its threshold; -inf before x, +inf never.

    ``towards_line`` moves each crossing that many times the way from the cubic's to the straight line's.
    """
    reached = fits >= reachable(threshold)[:, None]
    at = reached.argmax(axis=1)
    crossing = np.where(reached.any(axis=1), -np.inf, np.inf)
    rows = np.flatnonzero(at > 0)
    if len(rows):
        left = at[rows] - 1
        cubic, goal = (
            PchipInterpolator(x, fits[rows], axis=1).c[:, left, np.arange(len(rows))],
            threshold[rows],
        )
        low, high = np.zeros(len(rows)), x[left + 1] - x[left]
        for _ in range(48):
            middle = (low + high) / 2
            enough = ((cubic[0] * middle + cubic[1]) * middle + cubic[2]) * middle + cubic[3] >= goal
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        line = (goal - cubic[3]) / (fits[rows, left + 1] - cubic[3]) * (x[left + 1] - x[left])
        mixed = high + np.broadcast_to(towards_line, len(fits))[rows] * (line - high)
        crossing[rows] = x[left] + np.clip(mixed, 0.0, x[left + 1] - x[left])
    return crossing


def _isotonic(
    curve: Curve, threshold: float, se: float, ci: float, n: int, rng: np.random.Generator
) -> tuple[float, tuple[float, float], str]:
    x, counts = np.log(curve.sizes), curve.counts
    sd, dof, origin = curve.noise()
    value = _first_reach(x, isotonic_fit(curve.means, counts)[None], np.array([threshold]))[0]
    if dof == 0:
        return math.exp(value), (0.0, math.inf), origin
    scale = np.sqrt(dof / rng.chisquare(dof, size=(n, 1)))
    means = curve.means + scale * (sd / np.sqrt(counts)) * rng.standard_normal((n, len(x)))
    crossings = _first_reach(
        x,
        isotonic_fit(means, counts),
        threshold + se * rng.standard_normal(n),
        _SHAPE_SD * rng.standard_normal(n),
    )
    low = np.quantile(crossings, (1 - ci) / 2, method="lower")
    high = np.quantile(crossings, (1 + ci) / 2, method="higher")
    return math.exp(value), (math.exp(low), math.exp(high)), f"bootstrap, {origin}"


def _first_crossing(
    curve: Curve, threshold: float, n: int, rng: np.random.Generator
) -> tuple[float, tuple[float, float], str]:
    def first(means: Float[np.ndarray, "b m"]) -> Float[np.ndarray, " b"]:
        above = means > threshold
        return np.where(above.any(axis=1), curve.sizes[above.argmax(axis=1)], np.inf)

    value = float(first(curve.means[None])[0])
    drawn = first(np.stack([rng.choice(r, size=n) for r in curve.runs], axis=1))
    found = drawn[np.isfinite(drawn)]
    if len(found) == 0:
        return value, (float(curve.sizes[-1]), math.inf), "no bootstrap curve crosses"
    spread = float(found.std())
    missed = f", {1 - len(found) / n:.0%} of the curves never cross" if len(found) < n else ""
    centre = float(found.mean())
    return (
        value,
        (centre - spread, centre + spread),
        f"mean +- sd of {n} one-seed-a-size bootstrap curves{missed}",
    )


def _success_probability(curve: Curve, threshold: float, ci: float) -> tuple[float, tuple[float, float], str]:
    successes = np.array([int((r >= threshold).sum()) for r in curve.runs])
    if len(successes) == 1 or successes.sum() in (0, curve.counts.sum()):
        value = math.inf if 2 * successes[-1] < curve.counts[-1] else -math.inf
        return math.exp(value), (0.0, math.inf), "every run fails, or every run succeeds"
    value, interval = logistic_crossing(curve.sizes, successes, curve.counts, ci=ci)
    return value, interval, "profile likelihood of the logistic fit"


def _falls(curve: Curve) -> str | None:
    """Say where the score falls with the size by more than its noise explains, if it does."""
    sd, dof, _ = curve.noise()
    if dof < 2:
        return None
    means, error = curve.means, sd / np.sqrt(curve.counts)
    drop = means[:, None] - means[None, :]
    limit = 4.0 * np.hypot(error[:, None], error[None, :]) + 1e-9
    excess = np.where(np.triu(np.ones_like(drop), 1) > 0, drop - limit, -np.inf)
    i, j = np.unravel_index(int(excess.argmax()), excess.shape)
    if excess[i, j] <= 0:
        return None
    return (
        f"the score falls from {means[i]:.3g} at size {curve.sizes[i]:g} to {means[j]:.3g} at {curve.sizes[j]:g}, "
        "more than its noise explains: is the learning rate right at every size?"
    )


@checked
def find_crossing(
    sizes: Any,
    scores: Any,
    threshold: float,
    *,
    estimator: str = "isotonic",
    greater_is_better: bool = True,
    threshold_se: float = 0.0,
    ci: float = 0.95,
    n_bootstrap: int = 1000,
    random_state: RandomState = 0,
) -> Crossing:
    """Estimate the least size whose score reaches a threshold.

    Parameters
    ----------
    sizes : array-like, shape (n_runs,)
        Size of each run (repeated for repeated runs), positive.
    scores : array-like, shape (n_runs,)
        Score of each run; one that is not finite counts as a failure, with a warning.
    threshold : float
        The score to be reached.
    estimator : {"isotonic", "first_crossing", "success_probability"}
        See the module's text.
    greater_is_better : bool
        False if small scores are good; then the size is sought whose score falls to the threshold.
    threshold_se : float
        Standard error of the threshold where it was measured itself; widens the isotonic interval.
    ci : float
        Nominal coverage of the interval (the first crossing's is one standard deviation whatever this says).

    Raises
    ------
    ValueError
        No runs, sizes that are not positive, no finite score, or an unknown estimator.

    Examples
    --------
    >>> print(find_crossing([10, 20, 40, 80], [0.2, 0.5, 0.9, 1.0], 0.7).value)  # doctest: +ELLIPSIS
    27.36...
    """
    check_choice(estimator, ESTIMATORS, "estimator")
    if check_in_range(ci, "ci", low=0.0, high=1.0) == 0:
        raise ValueError("ci must be above 0")
    check_in_range(threshold_se, "threshold_se", low=0.0)
    check_in_range(n_bootstrap, "n_bootstrap", low=1, integer=True)
    sign = 1.0 if greater_is_better else -1.0
    level, rng = sign * threshold, as_generator(random_state)
    curve = Curve.from_runs(sizes, sign * check_numbers(scores, "scores"), level)
    fall = _falls(curve)
    if fall is not None:
        warn(fall)
    if estimator == "isotonic":
        value, interval, how = _isotonic(curve, level, threshold_se, ci, n_bootstrap, rng)
    elif estimator == "first_crossing":
        value, interval, how = _first_crossing(curve, level, n_bootstrap, rng)
    else:
        value, interval, how = _success_probability(curve, level, ci)
    least, largest = float(curve.sizes[0]), float(curve.sizes[-1])
    if estimator == "first_crossing" and value == least:
        value = 0.0  # the first size already passes: only a bound is known
    status = "not_reached" if math.isinf(value) else "below_min" if value == 0 else "found"
    return Crossing(
        value=math.nan if status == "below_min" else value,
        interval=interval,
        status=status,
        bound={"found": value, "not_reached": largest, "below_min": least}[status],
        threshold=float(threshold),
        method=estimator,
        ci=ci,
        ci_method=how,
        notes=() if fall is None else (fall,),
    )
