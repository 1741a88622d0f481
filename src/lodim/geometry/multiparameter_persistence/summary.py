"""How many components and loops a data set has that noise does not explain: a short answer from a subsample.

Both are read from two filtrations at once, distance and density, so that outliers neither make nor close a feature.

- *Components*: single linkage in the mutual reachability distance ``max(c_i, c_j, |x_i - x_j|)``, c the distance to the
  k-th neighbour, which is the diagonal slice through distance and density. A component counts if it holds a twentieth
  of the points and merges with the others only at three times the median of c or more.
- *Loops*: on the points whose distance to their k nearest neighbours (root mean square) is at most 4, 3 and 2 times the
  median, each with its Rips filtration, a loop counts if its ratio death / birth is too large for noise. With
  ``l = log log(death / birth) - b``, ``exp(-exp(l))`` is its p-value under the universal null distribution of Bobrowski
  and Skraba 2023 (arXiv 2207.03926), corrected for the number of bars. The median of the three counts is reported.

The location b is there taken from the mean over all bars, which the loops to be found distort, and with one bar it is
nothing but that bar. Here b is such that the median of l over the bars *and ten fixed ones* is the law's ``log log 2``;
the ten are the law's quantiles at the location of uniform points in the plane, b = -1.7. (50 to 200 points: between
-1.8 and -1.7. It falls with the dimension, to -3 in thirty: few bars count as those of the plane, where ratios are
largest, so that a lack of bars makes no loops.) A clean circle has one bar, which the ten then judge; a cloud's tens of
bars speak for themselves.

The slices are those of the multifiltration of Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170; the rules for
counting are not in that paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist

from lodim.randomness import as_generator
from lodim.results import Result
from lodim.validation import check_fraction, check_in_range, check_matrix, checked, require

_WITHIN = (4.0, 3.0, 2.0)
_APART, _SHARE = 3.0, 0.05
_PLANE, _FIXED = -1.7, 10


@dataclass(frozen=True)
class TopologySummary(Result):
    """Robust components and loops.

    Attributes
    ----------
    n_components, n_loops : int
        That of loops is the median over the slices.
    component_gaps : tuple of float
        Heights at which the counted components merge, highest first, in units of the median distance to the k-th
        neighbour.
    loop_ratios, loop_p_values : tuple of float
        death / birth of the middle slice's longest loops (at most five), and their corrected p-values.
    loops_by_slice : dict
        Largest distance to the k nearest neighbours that a slice keeps, in medians: number of loops.
    n_used : int
        Points of the subsample.
    level : float
        Level of the test for loops.
    """

    n_components: int
    n_loops: int
    component_gaps: tuple[float, ...]
    loop_ratios: tuple[float, ...]
    loop_p_values: tuple[float, ...]
    loops_by_slice: dict[str, int]
    n_used: int
    level: float = 0.05

    def to_frame(self) -> Any:
        """Return the number of loops on every slice as a data frame."""
        import pandas as pd

        return pd.DataFrame(
            {"within": list(map(float, self.loops_by_slice)), "loops": self.loops_by_slice.values()}
        )

    def __str__(self) -> str:
        parts, loops = self.n_components, self.n_loops
        return (
            f"{parts} component{'s' * (parts != 1)} and {loops} loop{'s' * (loops != 1)} beyond noise "
            f"({self.n_used} points)"
        )


def _components(distance: np.ndarray, core: np.ndarray) -> tuple[int, list[float]]:
    """Number of components that count, and the heights beyond the cut at which they merge."""
    reach = np.maximum(distance, np.maximum(core[:, None], core[None]))
    tree = minimum_spanning_tree(np.triu(reach, 1)).tocoo()
    unit = float(np.median(core))
    if unit == 0:
        return 1, []
    short = tree.data <= _APART * unit
    graph = csr_array((np.ones(short.sum()), (tree.row[short], tree.col[short])), shape=distance.shape)
    _, label = connected_components(graph, directed=False)
    large = np.flatnonzero(np.bincount(label) >= _SHARE * len(distance))
    heights = _merging_heights(tree, label, large)
    return max(1, len(large)), [h / unit for h in heights]


def _merging_heights(tree: Any, label: np.ndarray, large: np.ndarray) -> list[float]:
    """Heights at which the large components become one, highest first."""
    joined, holds = DisjointSet(range(label.max() + 1)), np.isin(np.arange(label.max() + 1), large)
    heights = []
    for e in np.argsort(tree.data, kind="stable"):
        u, v = (joined[int(label[end[e]])] for end in (tree.row, tree.col))
        if joined.merge(u, v):
            if holds[u] and holds[v]:
                heights.append(float(tree.data[e]))
            holds[joined[u]] = holds[u] | holds[v]
    return heights[::-1]


def loop_p_values(bars: np.ndarray) -> np.ndarray:
    """Return p-values of Rips bars of positive degree under the universal null distribution, corrected for their
    number.

    Parameters
    ----------
    bars : ndarray, shape (n, 2)
        Births and deaths, births positive.
    """
    if not len(bars):
        return np.empty(0)
    doubly = np.log(np.log(bars[:, 1] / bars[:, 0]))
    fixed = _PLANE + np.log(-np.log((np.arange(_FIXED) + 0.5) / _FIXED))
    location = np.median(np.concatenate([doubly, fixed])) - np.log(np.log(2))
    return np.minimum(1.0, len(bars) * np.exp(-np.exp(doubly - location)))


def _loops(distance: np.ndarray) -> np.ndarray:
    ripser = require("gudhi.sklearn.rips_persistence", "topology").RipsPersistence
    model = ripser(homology_dimensions=1, input_type="full distance matrix", num_collapses=0)
    bars = model.fit_transform([distance])[0]
    return bars[(bars[:, 0] > 0) & (bars[:, 1] > bars[:, 0]) & np.isfinite(bars[:, 1])]


@checked
def topology_summary(
    X: Any, *, max_points: int = 200, level: float = 0.05, mass: float = 0.05, random_state: Any = 0
) -> TopologySummary:
    """Count components and loops beyond noise.

    Parameters
    ----------
    X : array-like, shape (n, n_features)
    max_points : int
        Size of the random subsample; time grows with its cube.
    level : float
        Level of the test for loops.
    mass : float
        Share of the points that a point's density is judged by.
    random_state : int, Generator or None
        Draws the subsample.

    Raises
    ------
    ImportError
        Without gudhi (extra ``topology``).
    ValueError
        Fewer than 20 points, or bad input.
    """
    data = check_matrix(X, min_rows=20)
    check_in_range(max_points, "max_points", low=20, integer=True)
    check_fraction(mass, "mass")
    check_fraction(level, "level")
    rng = as_generator(random_state)
    rows = rng.choice(len(data), size=min(len(data), max_points), replace=False)
    distance = cdist(data[rows], data[rows])
    near = np.sort(distance, axis=1)[:, 1 : 1 + max(5, int(np.ceil(mass * len(rows))))]
    n_components, gaps = _components(distance, near[:, -1])
    spread = np.sqrt((near**2).mean(1))
    counts: dict[str, int] = {}
    ratios: list[float] = []
    p_values: list[float] = []
    for factor in _WITHIN:
        kept = np.flatnonzero(spread <= factor * np.median(spread))
        bars = _loops(distance[np.ix_(kept, kept)])
        values = loop_p_values(bars)
        counts[f"{factor:g}"] = int((values < level).sum())
        if factor == _WITHIN[1]:
            longest = np.argsort(values, kind="stable")[:5]
            p_values = [float(v) for v in values[longest]]
            ratios = [float(r) for r in bars[longest, 1] / bars[longest, 0]]
    n_loops = int(np.median(list(counts.values())))
    return TopologySummary(
        n_components, n_loops, tuple(gaps), tuple(ratios), tuple(p_values), counts, len(rows), level
    )
