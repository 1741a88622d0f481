r"""Which learning rate a measurement keeps: the one-standard-error rule, :func:`choose_multiplier`.

Several multipliers g are tried on the same cells c, a cell being a dimension and a seed (the same directions, the same
order of data). The best mean wins by luck as often as by merit, and a search that follows it jumps from run to run. So
of all multipliers that are not worse than the best by more than the noise, the one nearest to where the search stands
is kept. With scores :math:`s_{g c}`, best :math:`b` and :math:`\delta_{g c} = s_{b c} - s_{g c}`,

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
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["Cells", "choose_multiplier", "mean_score", "next_beyond"]

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
