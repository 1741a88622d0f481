"""How many components and loops a data set has that noise does not explain: a short answer from a subsample.

Both are read from two filtrations at once, distance and density, so that outliers neither make nor close a feature.

- *Components*: single linkage in the mutual reachability distance ``max(c_i, c_j, |x_i - x_j|)``, c the distance to the
  k-th neighbour, which is the diagonal slice through distance and density. A component counts if it holds a twentieth
  of the points and merges with the others only at three times the median of c or more.
- *Loops*: on the densest 95, 90 and 85 percent of the points, each with its Rips filtration, a loop counts if its ratio
  death / birth is too large for noise. With ``l = log log(death / birth)``, shifted so that its median is
  ``log log 2``, ``exp(-exp(l))`` is its p-value under the universal null distribution of Bobrowski and Skraba 2023
  (arXiv 2207.03926; there the mean is fixed, which the loops to be found distort), corrected for the number of bars.
  The median of the three counts is reported.

The slices are those of the multifiltration of Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170; the rules for
counting are not in that paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist

from lodim.plots import COLORS, new_axes
from lodim.randomness import as_generator
from lodim.results import Result
from lodim.validation import check_in_range, check_matrix, require

__all__ = ["TopologySummary", "topology_summary"]

_KEPT = (0.95, 0.9, 0.85)
_APART, _SHARE = 3.0, 0.05


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
        Share of the points kept: number of loops.
    n_used : int
        Points of the subsample.
    alpha : float
        Level of the test for loops.
    """

    n_components: int
    n_loops: int
    component_gaps: tuple[float, ...]
    loop_ratios: tuple[float, ...]
    loop_p_values: tuple[float, ...]
    loops_by_slice: dict[str, int]
    n_used: int
    alpha: float = 0.05

    def to_frame(self) -> Any:
        """Return the number of loops on every slice as a data frame."""
        import pandas as pd

        return pd.DataFrame(
            {"kept": list(map(float, self.loops_by_slice)), "loops": self.loops_by_slice.values()}
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the ratios death / birth of the longest loops, those that count in colour.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        counted = [value < self.alpha for value in self.loop_p_values]
        ax.bar(range(len(counted)), self.loop_ratios, color=[COLORS[1] if c else COLORS[6] for c in counted])
        ax.set_xlabel("loop")
        ax.set_ylabel("death / birth")
        ax.set_title(str(self))
        return ax

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
    parent, holds = np.arange(label.max() + 1), np.zeros(label.max() + 1, dtype=bool)
    holds[large] = True
    heights = []
    for e in np.argsort(tree.data, kind="stable"):
        u, v = label[tree.row[e]], label[tree.col[e]]
        while parent[u] != u:
            u = parent[u]
        while parent[v] != v:
            v = parent[v]
        if u != v:
            if holds[u] and holds[v]:
                heights.append(float(tree.data[e]))
            parent[u] = v
            holds[v] |= holds[u]
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
    shifted = doubly - np.median(doubly) + np.log(np.log(2))
    return np.minimum(1.0, len(bars) * np.exp(-np.exp(shifted)))


def _loops(distance: np.ndarray) -> np.ndarray:
    ripser = require("gudhi.sklearn.rips_persistence", "topology").RipsPersistence
    model = ripser(homology_dimensions=1, input_type="full distance matrix", num_collapses=0)
    bars = model.fit_transform([distance])[0]
    return bars[(bars[:, 0] > 0) & (bars[:, 1] > bars[:, 0]) & np.isfinite(bars[:, 1])]


def topology_summary(
    X: Any, *, max_points: int = 200, alpha: float = 0.05, mass: float = 0.05, random_state: Any = None
) -> TopologySummary:
    """Count components and loops beyond noise.

    Parameters
    ----------
    X : array-like, shape (n, n_features)
    max_points : int
        Size of the random subsample; time grows with its cube.
    alpha : float
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
    rng = as_generator(random_state)
    rows = rng.choice(len(data), size=min(len(data), max_points), replace=False)
    distance = cdist(data[rows], data[rows])
    near = np.sort(distance, axis=1)[:, 1 : 1 + max(5, int(np.ceil(mass * len(rows))))]
    n_components, gaps = _components(distance, near[:, -1])
    order = np.argsort((near**2).mean(1), kind="stable")
    counts: dict[str, int] = {}
    ratios: list[float] = []
    p_values: list[float] = []
    for share in _KEPT:
        kept = order[: int(np.ceil(share * len(rows)))]
        bars = _loops(distance[np.ix_(kept, kept)])
        values = loop_p_values(bars)
        counts[f"{share:g}"] = int((values < alpha).sum())
        if share == _KEPT[1]:
            longest = np.argsort(values, kind="stable")[:5]
            p_values = [float(v) for v in values[longest]]
            ratios = [float(r) for r in bars[longest, 1] / bars[longest, 0]]
    n_loops = int(np.median(list(counts.values())))
    return TopologySummary(
        n_components, n_loops, tuple(gaps), tuple(ratios), tuple(p_values), counts, len(rows), alpha
    )
