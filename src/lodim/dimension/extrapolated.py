"""GeoMLE: Levina and Bickel's estimator extrapolated to radius zero (Gomtsyan 2019, arXiv 1904.06151).

Curvature and a varying density bias an estimate from a neighbourhood of radius R by terms in R and R^2. So measure at
several radii and take the intercept: around each point, for k = k_1 ... k_2 and M bootstrap samples of the data,

    m_k = (k - 2) / sum_{j<k} log(R_k / R_j),   m_k ~ d + a R_k + b R_k^2

with means over the samples and weights one over the standard deviation; a weak ridge keeps the parabola still where
radii hardly differ (in high dimension). The answer is the mean of the intercepts d over points.

============== ======================= ====================================================================
in the paper   here                    meaning
============== ======================= ====================================================================
k_1, k_2       ``k // 10, 2 * k // 5``  range of neighbours; the graph's k is larger, see below
M              ``n_bootstrap``         bootstrap samples
============== ======================= ====================================================================

Departures. A bootstrap sample keeps each point with probability 1 - 1/e, so its neighbours are found in a thinned list
of the k nearest of the whole data (k = 100 holds the 40 nearest of nearly every sample: a draw in which it does not is
left out) and one neighbour search serves all samples. Radii are measured in units of the point's largest mean radius,
so that the ridge does not make the answer depend on the unit of length.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from lodim.dimension.nearest import TIE
from lodim.neighbors import NeighborGraph
from lodim.randomness import RandomState, as_generator

_RIDGE = 5e-3
_CHUNK = 1 << 21


def _thinned(
    dist: Float[np.ndarray, "b k"], kept: Bool[np.ndarray, "b k"], width: int
) -> Float[np.ndarray, "b width"]:
    """The ``width`` nearest of the kept neighbours; rows with fewer become NaN."""
    order = np.argsort(~kept, axis=1, kind="stable")[:, :width]
    near = np.take_along_axis(dist, order, 1)
    near[kept.sum(1) < width] = np.nan
    return near


def _positive(spread: np.ndarray) -> np.ndarray:
    """Spreads of zero (all samples agree) replaced by the smallest other of their row, else by one."""
    if (spread > 0).all():
        return spread
    least = np.where(spread > 0, spread, np.inf).min(1, keepdims=True)
    return np.where(spread > 0, spread, np.where(np.isfinite(least), least, 1.0))


def intercepts(
    radius: Float[np.ndarray, "b m"], local: Float[np.ndarray, "b m"], spread: Float[np.ndarray, "b m"]
) -> Float[np.ndarray, " b"]:
    """Value at radius zero of a weighted ridge parabola through each row.

    A row holds mean radii, mean dimensions and their standard deviations over bootstrap samples.
    """
    w = 1 / _positive(spread)
    x = radius / radius[:, -1:]
    design = np.stack([x, x**2], 2)
    total = w.sum(1)
    middle = (w[:, :, None] * design).sum(1) / total[:, None]
    level = (w * local).sum(1) / total
    centred = design - middle[:, None]
    weighted = (centred * w[:, :, None]).transpose(0, 2, 1)
    moments = weighted @ centred + _RIDGE * np.eye(2)
    slopes = np.linalg.solve(moments, weighted @ (local - level[:, None])[:, :, None])[:, :, 0]
    return level - (slopes * middle).sum(1)


def _ratio(orders: Float[np.ndarray, " m"], gaps: Float[np.ndarray, "b m"]) -> Float[np.ndarray, "b m"]:
    """``orders / gaps``; infinite where rounding noise is all there is of a gap, NaN where the gap is."""
    tied = gaps <= TIE * orders
    return np.where(tied, np.inf, orders / np.where(tied, 1.0, gaps))


def geomle(
    graph: NeighborGraph, k: int, *, n_bootstrap: int = 20, random_state: RandomState = None
) -> Float[np.ndarray, " n_queries"]:
    """GeoMLE at every query point of a graph; infinite where distances tie at one of the radii.

    Of k neighbours to draw from, at least 20, the ``k // 10`` to ``2 k // 5`` nearest of each sample are used.
    """
    if not 20 <= k <= graph.k:
        raise ValueError(f"'geomle' looks at 20 neighbours or more, at most the graph's {graph.k}; got k={k}")
    low, high = max(3, k // 10), 2 * k // 5
    rng = as_generator(random_state)
    n, position = graph.n_ref, np.searchsorted(graph.distinct, graph.idx[:, :k])
    samples = np.stack([np.isin(np.arange(n), rng.integers(n, size=n)) for _ in range(n_bootstrap)])
    out = np.empty(graph.n_queries)
    step = max(1, _CHUNK // (k * n_bootstrap))
    for start in range(0, graph.n_queries, step):
        part = slice(start, start + step)
        near, dist = position[part], graph.dist[part, :k]
        local, radius = [], []
        for sample in samples:
            logs = np.log(thin := _thinned(dist, sample[near], high))
            gaps = (
                np.arange(high) * logs - np.cumsum(logs, 1) + logs
            )  # sum_{j<k} log(R_k / R_j), column k - 1
            local.append(_ratio((np.arange(1, high + 1) - 2.0)[low - 1 :], gaps[:, low - 1 :]))
            radius.append(thin[:, low - 1 :])
        m, r = np.array(local), np.array(radius)
        tied = np.isinf(m).any((0, 2))  # at some radius all distances tie: no dimension to extrapolate
        m[:, tied] = 1.0
        found = intercepts(np.nanmean(r, 0), np.nanmean(m, 0), np.nanstd(m, 0, ddof=1))
        out[part] = np.where(tied, np.inf, found)
    return out
