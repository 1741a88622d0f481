"""ESS: local dimension from how much simplices are skewed (Johnsson, Soneson, Fontes 2015, IEEE TPAMI 37, 196-202).

Take the vectors v_i from the centre of a neighbourhood to its k points. Two of them span a triangle whose area,
compared with that of a right-angled one with the same sides, is the sine of the angle between them; weighted by the
sides,

    S = sum_{i<j} |v_i| |v_j| sin(v_i, v_j) / sum_{i<j} |v_i| |v_j|.

For directions that are uniform on the sphere of dimension d the sine's mean is

    s(d) = Gamma(d/2)^2 / (Gamma((d+1)/2) Gamma((d-1)/2)),   s(1) = 0,

rising to 1; the answer is the d with s(d) = S, interpolated linearly between whole numbers (version "a" of the paper
with simplices of one edge pair). One Gram matrix of each neighbourhood gives all its triangles.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from lodim.neighbors import NeighborGraph, local_blocks

_LARGEST = 100_000


def expected_skewness(d: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Mean sine of the angle between two uniform directions in d dimensions, d at least 1."""
    d = np.asarray(d, dtype=np.float64)
    above = np.maximum(d, 1 + 1e-9)
    value = np.exp(2 * gammaln(above / 2) - gammaln((above + 1) / 2) - gammaln((above - 1) / 2))
    return np.where(d > 1, value, 0.0)


def simplex_skewness(points: Float[np.ndarray, "b k features"]) -> Float[np.ndarray, " b"]:
    """Skewness S of neighbourhoods."""
    vectors = points - points.mean(1, keepdims=True)
    gram = vectors @ vectors.transpose(0, 2, 1)
    i, j = np.triu_indices(gram.shape[1], 1)
    squares = np.diagonal(gram, axis1=1, axis2=2)
    sides = squares[:, i] * squares[:, j]
    areas = np.sqrt(np.maximum(sides - gram[:, i, j] ** 2, 0)).sum(1)
    total = np.sqrt(sides).sum(1)
    return np.divide(areas, total, out=np.zeros(len(areas)), where=total > 0)


def skewness_dimension(skewness: Float[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
    """Dimension whose uniform directions have a skewness, in [0, 1), linear between whole numbers."""
    whole = np.arange(1, _LARGEST + 1, dtype=np.float64)
    return np.interp(skewness, expected_skewness(whole), whole)


def ess(X: Float[np.ndarray, "n features"], graph: NeighborGraph, k: int) -> Float[np.ndarray, " n_queries"]:
    """ESS at every query point of a graph, from its k neighbours."""
    out = np.empty(graph.n_queries)
    for part, near in local_blocks(X, graph, k, max_entries=1 << 20):
        out[part] = simplex_skewness(near.astype(np.float64, copy=False))
    return skewness_dimension(out)
