r"""How deep a valley the density of ungrouped rows shows by chance, and what that leaves of a valley that is found.

**The least favourable case.** A k-NN density is noisy by :math:`1 / \sqrt k` nats wherever it is taken, whatever the
density and the dimension. On a flat line every dip parts the rows; on a plane, and in more dimensions, a path goes
round it. So a straight line with constant density shows the deepest valleys that ungrouped rows show, and long
rectangles, circles and threads come near it. Its deepest valley D, of trees as in
:mod:`lodim.partition.density_tree`, was simulated for n from 40 to 5,000 rows and k from 6 to 96 neighbours
(``python -m lodim.partition.make_valley_null`` makes the six numbers below again). :math:`\sqrt k D` follows

.. math:: P(\sqrt k D \le z) = \exp(-e^{-(z - \mu) / \beta}), \qquad
   \mu = m_0 + m_1 \log \tfrac nk + m_2 \tfrac kn + m_3 \log k, \qquad \beta = b_0 + b_1 \tfrac kn,

whose quantiles from 80 to 99 per cent are within 0.23 of the simulated ones (0.07 on the whole). To the location 0.25
is added: rows that are many-dimensional nearby and a line from afar (long rectangles, threads that grow out of a ball)
show valleys deeper by up to that. Nothing else in the law comes from a family that :func:`lodim.partition.groups` is
tested on.

**Several k.** :func:`scales` are tried, and the chance of the best one is raised to that of as many independent
tries (Sidak), which is more than dependent ones need.

**Size.** Beyond chance a valley must matter: a density that falls to less than 65 per cent of the lower summit.
"""

from __future__ import annotations

import math

__all__ = ["FEWEST", "LEAST_SHARE", "chance", "deep_enough", "least_rows", "scales"]

FEWEST = 48  # different rows, below which nothing is said
LEAST_SHARE = 0.02  # of the rows, that a group needs
_SHALLOW = 0.65  # of the lower summit's density: what a valley must fall below
_LOCATION, _SCALE = (1.559, 0.197, -10.143, 0.259), (0.208, 1.079)
_MARGIN = 0.25
_MOST_NEIGHBOURS, _ROWS_A_NEIGHBOUR = 100, 8


def scales(n: int) -> tuple[int, ...]:
    """Neighbours at which the density of n different rows is looked at: 6 to 12, and their doubles up to 100."""
    k, found = min(12, max(6, n // 100)), []
    while k <= min(n // _ROWS_A_NEIGHBOUR, _MOST_NEIGHBOURS):
        found.append(k)
        k *= 2
    return tuple(found)


def least_rows(n: int, k: int) -> int:
    """Rows that a group needs."""
    return max(k, math.ceil(LEAST_SHARE * n))


def _law(n: int, k: int) -> tuple[float, float]:
    """Location and scale of the largest ``sqrt(k) D``."""
    m, b = _LOCATION, _SCALE
    location = m[0] + m[1] * math.log(n / k) + m[2] * k / n + m[3] * math.log(k)
    return location + _MARGIN, b[0] + b[1] * k / n


def chance(depth: float | int, n: int, k: int, n_scales: int) -> float:
    """Chance that n ungrouped rows show a valley as deep (nats) at one of so many k."""
    location, scale = _law(n, k)
    below = -math.exp(-(math.sqrt(k) * depth - location) / scale)  # logarithm of the chance to stay below it
    return -math.expm1(n_scales * max(below, -700.0))


def deep_enough(n: int, k: int, n_scales: int, level: float | int) -> float:
    """Depth (nats) from which a valley divides: rarer than ``level``, and a real fall of the density."""
    location, scale = _law(n, k)
    rare = location - scale * math.log(-math.log1p(-level) / n_scales)
    return max(rare / math.sqrt(k), -math.log(_SHALLOW))
