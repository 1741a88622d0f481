"""The sparse matrix of a kNN graph's weights, for what propagates or cuts along neighbours.

Unlike :class:`~lodim.neighbors.NeighborGraph` it keeps repeated rows: each is a neighbour of the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from lodim.neighbors.index import NeighborIndex
from lodim.neighbors.queries import safe_scale
from lodim.validation import check_choice, check_in_range, check_matrix, checked

__all__ = ["knn_affinity"]


@checked
def knn_affinity(
    X: Any,
    k: int | np.integer,
    *,
    mode: str = "binary",
    sigma: float | int | np.floating | None = None,
    symmetric: bool = True,
) -> csr_array:
    r"""Weigh the edges to each row's k nearest neighbours.

    Parameters
    ----------
    X : array-like, shape (n, n_features)
    k : int
        Neighbours of a row, itself not counted; less than n.
    mode : {"binary", "gaussian"}
        Weights of 1, or :math:`\exp(-\Vert x_i - x_j \Vert^2 / 2 \sigma^2)`.
    sigma : float, optional
        Width of ``"gaussian"``; default: :math:`\sigma^2` is the mean squared length of the edges.
    symmetric : bool
        Whether an edge counts both ways when it is found from one side (the larger weight of the two).

    Returns
    -------
    scipy.sparse.csr_array, shape (n, n)
        The diagonal is empty.

    Raises
    ------
    ValueError
        Not a finite matrix, k not below n, a sigma that is not positive.

    Examples
    --------
    >>> knn_affinity([[0.0], [1.0], [3.0]], 1).toarray()
    array([[0., 1., 0.],
           [1., 0., 1.],
           [0., 1., 0.]])
    """
    check_choice(mode, ("binary", "gaussian"), "mode")
    rows = check_matrix(X)
    n = len(rows)
    k = int(check_in_range(k, "k", low=1, integer=True))
    if k >= n:
        raise ValueError(f"k={k} neighbours need at least {k + 1} rows, got {n}; lower k")
    if sigma is not None and not 0 < sigma < np.inf:
        raise ValueError(f"sigma must be positive, got {sigma}")
    scale = safe_scale(rows)
    own = np.arange(n)
    distances, neighbors = NeighborIndex("l2").fit(rows / scale).kneighbors(rows / scale, k, exclude_ids=own)
    weights = np.ones(n * k)
    if mode == "gaussian":
        squares = np.square(distances, dtype=np.float64).ravel()
        unit = squares.mean() if sigma is None else (sigma / scale) ** 2
        weights = np.exp(-squares / (2 * unit)) if unit > 0 else weights
    affinity = csr_array((weights, (np.repeat(own, k), neighbors.ravel())), shape=(n, n))
    return affinity.maximum(affinity.T) if symmetric else affinity
