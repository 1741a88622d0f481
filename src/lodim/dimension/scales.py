"""The dimension as a function of scale: farther neighbours (Gride) and fewer points (decimation with TwoNN).

Noise adds dimensions at small scales, curvature and boundaries distort large ones; a plateau between them is the
dimension to trust (Denti 2022, arXiv 2104.13832; Facco 2017, arXiv 1803.06992).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from lodim.dimension.nearest import gride, log_ratios, twonn_mle
from lodim.dimension.summary import ScalePoint
from lodim.neighbors import NeighborGraph
from lodim.randomness import RandomState, as_generator

_FEWEST_POINTS = 50


def gride_points(graph: NeighborGraph) -> tuple[ScalePoint, ...]:
    """Gride with n1 = 1, 2, 4, ... and n2 = 2 n1, as far as the graph's neighbours go."""
    points, n1 = [], 1
    while 2 * n1 <= graph.k:
        d, se = gride(log_ratios(graph.dist, n1, 2 * n1), n1, 2 * n1)
        radius = float(graph.dist[:, 2 * n1 - 1].mean())
        points.append(ScalePoint("gride", n1, graph.n_ref, d, se, radius))
        n1 *= 2
    return tuple(points)


def decimation_points(
    X: Float[np.ndarray, "n features"],
    graph: NeighborGraph,
    *,
    backend: str = "auto",
    max_queries: int = 10_000,
    random_state: RandomState = None,
) -> tuple[ScalePoint, ...]:
    """TwoNN on random halves, quarters, ... of the graph's distinct points, down to 50."""
    rng = as_generator(random_state)
    order = rng.permutation(graph.distinct)
    points, n = [], len(order) // 2
    while n >= _FEWEST_POINTS:
        part = NeighborGraph.from_data(X[order[:n]], 2, backend, query=max_queries, random_state=rng)
        d = twonn_mle(log_ratios(part.dist))
        se = d / np.sqrt(0.9 * part.n_queries)
        points.append(ScalePoint("decimation", 1, n, d, float(se), float(part.dist[:, 1].mean())))
        n //= 2
    return tuple(points)
