"""What no dimension can exceed: the columns, the rank of the data, and the distinct rows less one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lodim.neighbors import NeighborGraph

BOUND_TEXTS = {
    "columns": "the number of columns",
    "rank": "the rank of the data",
    "rows": "the number of distinct rows less one",
}


@dataclass(frozen=True)
class Bound:
    """The largest dimension that is possible, and what sets it: ``"columns"``, ``"rank"`` or ``"rows"``."""

    most: int
    name: str


def bound_of(
    graph: NeighborGraph, X: Float[np.ndarray, "n features"] | None = None, near: float = math.inf
) -> Bound:
    """The least bound that is known; the rank (of data X) only as far as it may lie below ``near``."""
    columns = graph.n_features if X is None else X.shape[1]
    bounds = [Bound(graph.n_ref - 1, "rows")]
    if columns is not None:
        bounds.insert(0, Bound(columns, "columns"))
    least = min(bounds, key=lambda bound: bound.most)
    if X is None:
        return least
    rank = rank_below(X, math.ceil(min(near, least.most)))
    return least if rank is None or rank >= least.most else Bound(rank, "rank")


def rank_below(X: Float[np.ndarray, "n features"], most: int) -> int | None:
    """Rank of the centred data if it is less than ``most``, else None.

    The span of some rows is found first: if all others lie in it, its rank is theirs.
    """
    some = X[:: max(1, len(X) // (4 * most + 20))].astype(np.float64)
    centre = some.mean(0)
    _, sizes, axes = np.linalg.svd(some - centre, full_matrices=False)
    tolerance = max(X.shape) * np.finfo(X.dtype).eps
    rank = int((sizes > tolerance * sizes[0]).sum()) if len(sizes) else 0
    if rank >= most:
        return None
    centred = X - centre
    outside = centred - (centred @ axes[:rank].T) @ axes[:rank]
    if np.abs(outside).max() <= tolerance * np.abs(X).max():
        return rank
    rank = int(np.linalg.matrix_rank(centred, rtol=tolerance))
    return rank if rank < most else None
