"""TLE: local dimension from all distances inside a tight neighbourhood (Amsaleg 2019, arXiv 2209.14475).

Besides the k distances to x, every pair of neighbours gives two more measurements of x's neighbourhood: the
distance from x_i to x_j, and to x_j's mirror image in x, each stretched to the sphere of radius r around x.

============== ============================ ============================================================
in the paper   here                         meaning
============== ============================ ============================================================
r              ``u[:, -1]``                 distance to the k-th neighbour
u_i            ``u``                        distance to the i-th neighbour
v_ij           ``v2`` (squared)             distance between the i-th and the j-th neighbour
z_ij           ``2 u_i^2 + 2 u_j^2 - v^2``  squared distance from x_i to the mirror image of x_j
s_ij, t_ij     ``_stretched``               the stretched distances
============== ============================ ============================================================

    d = -2 k^2 / (sum log(s/r) + sum log(t/r) + 2 sum log(u/r))

with k^2 reduced by the pairs dropped. Departure: measurements are dropped when s or t is below ``1e-4 r`` (the
paper's published code compares with an absolute 1e-4, which would make the answer depend on the unit of length).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from lodim.dimension.nearest import TIE
from lodim.neighbors import NeighborGraph, local_blocks

_EPSILON = 1e-4


def _stretched(
    u: Float[np.ndarray, "b k"], square: Float[np.ndarray, "b k k"], r: Float[np.ndarray, " b"]
) -> Float[np.ndarray, "b k k"]:
    """Distance of x_i to a point at squared distance ``square``, stretched to the sphere of radius r around x."""
    ui, uj, radius = u[:, :, None], u[:, None, :], r[:, None, None]
    a = ui**2 + square - uj**2
    room = radius**2 - ui**2
    root = np.sqrt(np.maximum(a**2 + 4 * square * room, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = radius * np.where(a > 0, 2 * square / (root + a), (root - a) / (2 * room))
        on_sphere = radius * square / (radius**2 + square - uj**2)
    return np.where(room > 0, inside, on_sphere)


def tight_local_dimension(
    u: Float[np.ndarray, "b k"], v2: Float[np.ndarray, "b k k"]
) -> Float[np.ndarray, " b"]:
    """TLE from ascending positive distances to the neighbours and squared ones between them; infinite for ties."""
    k, r = u.shape[1], u[:, -1]
    z2 = np.maximum(2 * u[:, :, None] ** 2 + 2 * u[:, None, :] ** 2 - v2, 0)
    s, t = (_stretched(u, square, r) / r[:, None, None] for square in (v2, z2))
    with np.errstate(invalid="ignore"):
        keep = (s >= _EPSILON) & (t >= _EPSILON)
    keep &= ~np.eye(k, dtype=bool)
    dropped = k * (k - 1) - keep.sum((1, 2))
    logs = np.log(np.where(keep, s, 1)).sum((1, 2)) + np.log(np.where(keep, t, 1)).sum((1, 2))
    total = logs + 2 * np.log(u / r[:, None]).sum(1)
    # where all distances tie the logs are rounding noise
    clear = total < -TIE * k**2
    return np.divide(-2.0 * (k**2 - dropped), total, out=np.full(len(u), np.inf), where=clear)


def tle(X: Float[np.ndarray, "n features"], graph: NeighborGraph, k: int) -> Float[np.ndarray, " n_queries"]:
    """TLE at every query point of a graph."""
    out = np.empty(graph.n_queries)
    for part, near in local_blocks(X, graph, k):
        u = graph.dist[part, :k]
        near = near.astype(np.float64, copy=False)
        near -= X[graph.query_idx[part], None]
        gram = near @ near.transpose(0, 2, 1)
        v2 = np.maximum(u[:, :, None] ** 2 + u[:, None, :] ** 2 - 2 * gram, 0)
        out[part] = tight_local_dimension(u, v2)
    return out
