r"""Which sizes to run next, until a threshold is bracketed, and at which learning rate; blind to what a run is.

A plan is a generator. It yields a wave, a list of ``(size, replicate)`` whose runs do not depend on each other, is sent
their scores (None for a run that was not made, NaN for one that failed) and ends by returning the scores by size::

    plan = bracket_waves(0.9, d_max=1000)
    wave = next(plan)
    while True:
        try:
            wave = plan.send([measure(size, replicate) for size, replicate in wave])
        except StopIteration as end:
            scores = end.value
            break

*Bracket*: double the size until the mean score reaches the threshold at two sizes in a row, with two below it (as far
as there are smaller ones), bisect the last step on a log scale until its ends are within ``resolution``, then repeat
the two ends with other seeds. Where one stands is read off the isotonic fit of everything run so far, so a lucky or
unlucky run early on is put right later. With ``lookahead`` above 1 a wave doubles several times at once, or cuts the
bracket into several parts: more runs in fewer waves, for backends that run many at the price of few. *Grid*:
everything at once.

**Which learning rate is kept** (:func:`choose_multiplier`): the one-standard-error rule. Several multipliers g are
tried on the same cells c, a cell being a dimension and a seed (the same directions, the same order of data). The best
mean wins by luck as often as by merit, and a search that follows it jumps from run to run. So of all multipliers that
are not worse than the best by more than the noise, the one nearest to where the search stands is kept. With scores
:math:`s_{g c}`, best :math:`b` and :math:`\delta_{g c} = s_{b c} - s_{g c}`,

.. math:: \bar\delta_g \le \hat\sigma / \sqrt{C_g}, \qquad
          \hat\sigma^2 = \frac{\sum_g \sum_c (\delta_{g c} - \bar\delta_g)^2}{\sum_g (C_g - 1)},

pooled over the multipliers that do at least as well as the present one: those far off have a noise of their own. With
one seed a multiplier the cells are the dimensions, and :math:`\hat\sigma` is what is left of the scores once
multipliers and dimensions are taken out. With one cell only nothing is known of the noise, and the best is taken.

Source: the rule is that of L. Breiman and others, *Classification and Regression Trees*, 1984, Section 3.4.3, there for
the size of a tree.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lodim.landscape.crossing import isotonic_fit, reachable, score_of_failure
from lodim.validation import check_counts, check_in_range

__all__ = [
    "Cells",
    "bracket_of",
    "bracket_waves",
    "choose_multiplier",
    "grid_sizes",
    "grid_waves",
    "mean_score",
    "next_beyond",
]

Wave = list[tuple[int, int]]
Plan = Generator[Wave, Sequence[float | None], dict[int, list[float]]]


def bracket_of(
    runs: Mapping[int, Sequence[float]], threshold: float, *, greater_is_better: bool = True
) -> tuple[int | None, int | None]:
    """Return the neighbouring sizes between which the isotonic fit of the runs reaches the threshold.

    The lower is None if the least size reaches it already, the upper if no size does; a score that is not finite
    counts as a failure.
    """
    sizes = sorted(d for d, s in runs.items() if len(s))
    if not sizes:
        return None, None
    sign = 1.0 if greater_is_better else -1.0
    scores = [sign * np.asarray(runs[d], dtype=float) for d in sizes]
    every = np.concatenate(scores)
    if not np.isfinite(every).any():
        return sizes[-1], None
    failure = score_of_failure(every, sign * threshold)
    means = np.array([np.where(np.isfinite(s), s, failure).mean() for s in scores])
    fit = isotonic_fit(means, np.array([float(len(s)) for s in scores]))
    passed = np.flatnonzero(fit >= reachable(sign * threshold))
    if len(passed) == 0:
        return sizes[-1], None
    first = int(passed[0])
    return (sizes[first - 1] if first else None), sizes[first]


def _doublings(start: int, factor: float, count: int, d_min: int, d_max: int) -> list[int]:
    sizes = [min(max(round(start * factor**i), d_min), d_max) for i in range(count)]
    return sorted(set(sizes))


def _cuts(low: int, high: int, resolution: float, lookahead: int) -> list[int]:
    """Sizes that cut ``low..high`` into equal ratios, no finer than needed; none if it is fine enough."""
    ratio = high / low
    if ratio <= resolution or high - low <= 1:
        return []
    parts = min(lookahead + 1, max(2, math.ceil(math.log(ratio) / math.log(resolution))))
    inner = {round(low * ratio ** (i / parts)) for i in range(1, parts)}
    return sorted({min(max(d, low + 1), high - 1) for d in inner})


def bracket_waves(
    threshold: float,
    *,
    d_max: int,
    d_min: int = 1,
    d0: int = 10,
    resolution: float = 1.1,
    n_seeds: int = 3,
    scan_seeds: int = 1,
    lookahead: int = 1,
    greater_is_better: bool = True,
    known: Mapping[int, Sequence[float]] | None = None,
) -> Plan:
    """Plan a bracketing search (see the module's text).

    Parameters
    ----------
    d_max, d_min : int
        Largest and least size that may be run.
    d0 : int
        Where doubling starts.
    resolution : float
        The bracket is fine enough once high / low is at most this; above 1.
    n_seeds, scan_seeds : int
        Replicates at the two ends of the final bracket, and of every other size.
    lookahead : int
        Sizes of one wave.
    known : mapping of int to sequence of float, optional
        Scores of runs made before.
    """
    check_in_range(d_min, "d_min", low=1, integer=True)
    check_in_range(d_max, "d_max", low=int(d_min), integer=True)
    check_counts(lookahead=lookahead, scan_seeds=scan_seeds)
    if not resolution > 1:
        raise ValueError(
            f"resolution must be above 1 (the ratio of two neighbouring sizes), got {resolution}"
        )
    runs: dict[int, list[float]] = {d: list(s) for d, s in (known or {}).items()}
    while True:
        low, high = bracket_of(runs, threshold, greater_is_better=greater_is_better)
        wanted = _next_sizes(
            runs, low, high, d_min=d_min, d_max=d_max, d0=d0, resolution=resolution, lookahead=lookahead
        )
        if wanted:
            wave = [(d, r) for d in wanted for r in range(len(runs.get(d, [])), scan_seeds)]
        else:
            ends = [d for d in (low, high) if d is not None]
            wave = [(d, r) for d in ends for r in range(len(runs.get(d, [])), n_seeds)]
        if not wave:
            return runs
        scores = yield wave
        for (d, _), score in zip(wave, scores, strict=True):
            if score is not None:
                runs.setdefault(d, []).append(float(score))


def _next_sizes(
    runs: Mapping[int, Sequence[float]],
    low: int | None,
    high: int | None,
    *,
    d_min: int,
    d_max: int,
    d0: int,
    resolution: float,
    lookahead: int,
) -> list[int]:
    """Sizes not run yet that the search needs next; none once the bracket is fine enough."""
    if low is None and high is None:
        return _doublings(d0, 2.0, lookahead, d_min, d_max)
    if high is None:
        assert low is not None
        new = _doublings(2 * low, 2.0, lookahead, d_min, d_max)
        if (
            low == d_max
        ):  # the largest fails: so may smaller ones not tried yet, unless scores fall with the size
            steps = math.ceil(math.log2(d_max / d0)) if d_max > d0 else 0
            untried = [d for d in _doublings(d0, 2.0, steps, d_min, d_max) if not runs.get(d)]
            new = untried[:lookahead]
    elif low is None:
        new = _doublings(high // 2, 0.5, lookahead, d_min, d_max) if high > d_min else []
    else:
        new = _cuts(low, high, resolution, lookahead)
    if high is not None and max(runs) == high < d_max:
        new.append(min(2 * high, d_max))  # the second size in a row that should pass
    if low is not None and high is not None and min(runs) == low > d_min:
        new.append(max(low // 2, d_min))  # one that should fail clearly, or the interval has no lower end
    return [d for d in new if not runs.get(d)]


def grid_sizes(d_min: int, d_max: int) -> list[int]:
    """Return 1, 1.5, 2, 3, 5, 7 times every power of ten between two sizes, both included."""
    steps = (1, 1.5, 2, 3, 5, 7)
    decades = range(math.floor(math.log10(d_min)), math.ceil(math.log10(d_max)) + 1)
    inner = {int(s * 10**p) for p in decades for s in steps if s * 10**p >= 1}
    return sorted({d for d in inner if d_min <= d <= d_max} | {d_min, d_max})


def grid_waves(
    sizes: Sequence[int], n_seeds: int, known: Mapping[int, Sequence[float]] | None = None
) -> Plan:
    """Plan every size with every replicate in one wave; ``known`` scores of the first replicates need no run."""
    runs = {int(d): [float(s) for s in scores] for d, scores in (known or {}).items()}
    wave = [(int(d), r) for d in sizes for r in range(len(runs.get(int(d), ())), n_seeds)]
    if not wave:
        return runs
    scores = yield wave
    for (d, _), score in zip(wave, scores, strict=True):
        if score is not None:
            runs.setdefault(d, []).append(float(score))
    return runs


Cells = Mapping[tuple[Any, Any], float]  # (dimension, seed) -> score, larger is better


def mean_score(cells: Cells) -> float:
    """Return the mean over dimensions of the mean over seeds; minus infinity without (finite) scores."""
    if not cells or not all(map(math.isfinite, cells.values())):
        return -math.inf
    sizes = {d for d, _ in cells}
    return float(np.mean([np.mean([score for (at, _), score in cells.items() if at == d]) for d in sizes]))


def choose_multiplier(scores: Mapping[float, Cells], first: float) -> float:
    """Return the multiplier nearest to ``first`` of those within one standard error of the best.

    So ``first`` stays unless another's gain exceeds the noise of the scores.
    """
    means = {g: mean_score(cells) for g, cells in scores.items()}
    best = max(means, key=lambda g: (means[g], -_steps(g, first)))
    contenders = [g for g in means if g != best and math.isfinite(means[g]) and means[g] >= means[first]]
    behind = {g: _shortfall(scores[best], scores[g]) for g in contenders}
    freedom = sum(max(len(values) - 1, 0) for values in behind.values())
    spread = sum(float(np.var(values) * len(values)) for values in behind.values() if len(values))
    deviation = math.sqrt(spread / freedom) if freedom else 0.0
    equal = [
        g
        for g, values in behind.items()
        if len(values) and values.mean() <= deviation / math.sqrt(len(values))
    ]
    return min([best, *equal], key=lambda g: _steps(g, first))


def next_beyond(tried: Iterable[float], end: float) -> float | None:
    """Return the multiplier that continues a grid geometrically beyond one of its ends; None if ``end`` is none."""
    order = sorted(tried)
    if len(order) > 1 and end == order[-1]:
        return end * end / order[-2]
    if len(order) > 1 and end == order[0]:
        return end * end / order[1]
    return None


def _shortfall(best: Cells, other: Cells) -> np.ndarray:
    """Differences on the cells that both have."""
    return np.array([best[cell] - other[cell] for cell in best if cell in other])


def _steps(g: float, first: float) -> float:
    return abs(math.log(g / first))
