"""Estimators that count pairs over the whole data set: the correlation dimension and Fisher separability.

Correlation integral (Grassberger and Procaccia 1983): the share C(r) of pairs nearer than r grows like r^d; between
two radii, ``d = log(C(r_2)/C(r_1)) / log(r_2/r_1)``. The radii are the median distances to two neighbours. With n
points the answer cannot exceed 2 log10(n) by much (Eckmann and Ruelle 1992).

FisherS (Albergante 2019, arXiv 1901.06328): on the unit sphere of n dimensions a point y is inseparable from x at level
alpha, <x, y> > alpha, with probability ``p = (1 - a^2)^((n-1)/2) / (a sqrt(2 pi n))``. Data are centred, reduced to
the principal components with a variance above a tenth of the first's, whitened and projected on the sphere; the
measured p is solved for n (W is Lambert's function, w = -log(1 - a^2)):

    n = W(w / (2 pi p^2 a^2 (1 - a^2))) / w
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import lambertw

from lodim.dimension.nearest import TIE
from lodim.neighbors import CountBelow, NeighborGraph, stream_pairs


def correlation_curve(
    X: Float[np.ndarray, "n features"],
    radii: Float[np.ndarray, " m"],
    query_idx: Int[np.ndarray, " n_q"] | None = None,
    *,
    device: Any = None,
) -> Float[np.ndarray, " m"]:
    """Return the correlation integral C(r): the share of ordered pairs (query, point) nearer than each radius.

    Distances that are a radius but for rounding, as on a lattice, are not nearer.
    """
    queries = X if query_idx is None else X[query_idx]
    nearer = CountBelow(np.asarray(radii) * (1 - TIE), points=(queries, X))
    (counts,) = stream_pairs(X, reducers=[nearer], query_idx=query_idx, device=device)
    n_q = len(queries)
    return counts / (n_q * (len(X) - 1))


def correlation_dimension(
    X: Float[np.ndarray, "n features"], graph: NeighborGraph, k1: int = 10, k2: int = 20
) -> float:
    """Slope of log C(r) between the median distances to the k1-th and the k2-th neighbour."""
    if not 1 <= k1 < k2 <= graph.k:
        raise ValueError(f"need 1 <= k1 < k2 <= {graph.k} neighbours, got k1={k1}, k2={k2}")
    radii = np.median(graph.dist[:, [k1 - 1, k2 - 1]], axis=0)
    if not radii[1] > radii[0]:
        return math.inf
    kept = graph.distinct
    everyone = graph.n_queries == len(kept)
    distinct = X if len(kept) == len(X) else X[kept]
    queries = None if everyone else np.searchsorted(kept, graph.query_idx)
    c1, c2 = correlation_curve(distinct, radii, queries)
    if c1 == 0:
        return math.inf  # nothing is nearer than the nearer radius: distances tie
    return float(np.log(c2 / c1) / np.log(radii[1] / radii[0]))


@dataclass(frozen=True)
class FisherSeparability:
    """Dimension by Fisher separability, at the level nearest 0.9 times the largest one with inseparable pairs.

    At each of the ``alphas`` there is a share of inseparable ordered pairs and the dimension it implies (NaN for none).
    Where no pair was inseparable at any level, ``dimension`` is the largest this sample could have shown, a lower
    bound.
    """

    dimension: float
    saturated: bool
    alphas: Float[np.ndarray, " m"]
    inseparable: Float[np.ndarray, " m"]
    dimensions: Float[np.ndarray, " m"]


def _sphere_dimension(p: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Invert p(n): see the module's formula. W is expanded for arguments beyond double precision."""
    w = -np.log1p(-(alpha**2))
    argument = w / (2 * np.pi * p**2 * alpha**2 * (1 - alpha**2))
    return lambertw(argument).real / w


def _on_sphere(X: np.ndarray, condition: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Whitened scores on the leading principal components, every row of length one, and which rows they are.

    Rows at the centre are left out.
    """
    from sklearn.decomposition import PCA

    svd = PCA(svd_solver="covariance_eigh" if X.shape[0] >= X.shape[1] else "full").fit(X)
    keep = svd.explained_variance_ > svd.explained_variance_[0] / condition
    scores = ((X - svd.mean_) @ svd.components_[keep].T) / np.sqrt(svd.explained_variance_[keep])
    lengths = np.linalg.norm(scores, axis=1, keepdims=True)
    rows = np.flatnonzero(lengths[:, 0])
    return scores[rows] / lengths[rows], rows


def fisher_separability(
    X: Float[np.ndarray, "n features"],
    alphas: Float[np.ndarray, " m"] | None = None,
    *,
    condition: int | float = 10.0,
    query_idx: Int[np.ndarray, " n_q"] | None = None,
    device: Any = None,
) -> FisherSeparability:
    """Dimension of the sphere whose points are as often inseparable as the data's (not all rows of which are equal).

    Levels default to 0.60, 0.62, ... 0.98; ``condition`` is the largest ratio of kept principal variances. With
    ``query_idx`` the pairs of these rows with all are counted.
    """
    levels = np.arange(0.6, 1, 0.02) if alphas is None else np.asarray(alphas, dtype=np.float64)
    sphere, rows = _on_sphere(X.astype(np.float64), condition)
    queries = None if query_idx is None else np.flatnonzero(np.isin(rows, query_idx))
    n = len(sphere)
    n_pairs = (n if queries is None else len(queries)) * (n - 1)
    # <x, y> > alpha on the unit sphere is |x - y| < sqrt(2 - 2 alpha)
    near = CountBelow(np.sqrt(2 - 2 * levels))
    (counts,) = stream_pairs(sphere, reducers=[near], query_idx=queries, device=device)
    share = counts / n_pairs
    seen = share > 0
    dimensions = np.full(len(levels), np.nan)
    dimensions[seen] = _sphere_dimension(share[seen], levels[seen])
    if not seen.any():
        bound = _sphere_dimension(np.array([1 / n_pairs]), levels[:1])[0]
        return FisherSeparability(float(bound), True, levels, share, dimensions)
    wanted = 0.9 * levels[seen].max()
    chosen = np.flatnonzero(seen)[np.abs(levels[seen] - wanted).argmin()]
    return FisherSeparability(float(dimensions[chosen]), False, levels, share, dimensions)
