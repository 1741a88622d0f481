"""Dimension from how the length of a graph through the points grows with their number.

n points on a d-dimensional set lie about n^(-1/d) apart, so the sum of the edges of a graph that joins neighbours,
each to the power gamma, grows like

    L(n) ~ c n^((d - gamma) / d),   d = gamma / (1 - slope of log L on log n).

Two such graphs: the k-nearest-neighbour graph (Costa and Hero 2004, IEEE TSP 52, 2210-2221) and the minimum spanning
tree (Steele 1988), whose edges are the lives of the components in the Vietoris-Rips filtration, hence
"persistent-homology dimension" (Adams 2020, arXiv 1808.01079; Schweinhart 2021, arXiv 1808.02196, who write alpha for
gamma). Random subsamples of eight sizes from n/10 to n are measured, the smaller ones several times.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from lodim.neighbors import NeighborGraph, first_occurrences
from lodim.randomness import RandomState, as_generator
from lodim.validation import check_in_range

__all__ = ["GRAPH_POINTS", "TREE_POINTS", "graph_length_dimension", "tree_dimension"]

GRAPH_POINTS, TREE_POINTS = 5000, 2000
_SIZES = 8
_MOST_REPEATS = 10


def _slope_dimension(
    length: Callable[[np.ndarray], float], n: int, least: int, gamma: int | float, rng: np.random.Generator
) -> float:
    """Regress log length on log size over random subsamples and solve the slope for d."""
    if n < least + 2:
        raise ValueError(
            f"{n} distinct points are too few to watch a graph grow; at least {least + 2} are needed"
        )
    sizes = np.unique(np.geomspace(max(n / 10, least), n, _SIZES).round().astype(int))
    x, y = [], []
    for size in sizes:
        for _ in range(min(_MOST_REPEATS, n // size)):
            x.append(math.log(size))
            y.append(math.log(length(rng.permutation(n)[:size])))
    slope = float(np.polyfit(x, y, 1)[0])
    return gamma / (1 - slope) if 1 - slope > 1e-9 else math.inf  # but for rounding, the length grows like n


def _distinct_sample(X: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    X = X[first_occurrences(X) == np.arange(len(X))]
    return X if len(X) <= most else X[np.sort(rng.choice(len(X), most, replace=False))]


def graph_length_dimension(
    X: Float[np.ndarray, "n features"],
    k: int = 5,
    gamma: int | float = 1.0,
    *,
    backend: str = "auto",
    random_state: RandomState = None,
) -> float:
    """Dimension by the growth of the k-nearest-neighbour graph's length, edges to a power gamma below the dimension.

    Repeated rows are dropped; of more than 5,000 a random choice is used.
    """
    check_in_range(gamma, "gamma", low=1e-3)
    rng = as_generator(random_state)
    data = _distinct_sample(X, GRAPH_POINTS, rng)

    def length(rows: np.ndarray) -> float:
        return float((NeighborGraph.from_data(data[rows], k, backend).dist ** gamma).sum())

    return _slope_dimension(length, len(data), 2 * k + 2, gamma, rng)


def tree_dimension(
    X: Float[np.ndarray, "n features"], gamma: int | float = 1.0, *, random_state: RandomState = None
) -> float:
    """Persistent-homology dimension of degree 0: by the growth of the minimum spanning tree.

    Single-linkage merges happen at the lengths of the tree's edges, so scipy's linkage is the tree. Repeated rows are
    dropped, and of more than 2,000 a random choice is used; gamma, alpha in the papers, is below the dimension.
    """
    check_in_range(gamma, "gamma", low=1e-3)
    rng = as_generator(random_state)
    data = _distinct_sample(X, TREE_POINTS, rng).astype(np.float64)
    distances = squareform(pdist(data))

    def length(rows: np.ndarray) -> float:
        edges = linkage(squareform(distances[np.ix_(rows, rows)], checks=False), "single")[:, 2]
        return float((edges**gamma).sum())

    return _slope_dimension(length, len(data), 10, gamma, rng)
