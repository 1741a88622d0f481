"""What no dimension can exceed: the columns, the rank of the data, and the distinct rows less one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lodim.neighbors import NeighborGraph

BOUND_TEXTS = {
    "columns": "the number of columns",
    "rank": "the rank of the data",
    "rows": "the number of distinct rows less one",
}

_ROUNDING = 1000  # errors of rounding that a row inside may be off


@dataclass(frozen=True)
class Bound:
    """The largest dimension that is possible, and what sets it: ``"columns"``, ``"rank"`` or ``"rows"``."""

    most: int
    name: str


def bound_of(
    graph: NeighborGraph, blocks: Iterable[np.ndarray] | None = None, near: float = math.inf
) -> Bound:
    """The least bound that is known.

    ``blocks`` of the data's rows bound it by their rank, which is only looked for below ``near``.
    """
    bounds = [Bound(graph.n_ref - 1, "rows")]
    if graph.n_features is not None:
        bounds.insert(0, Bound(graph.n_features, "columns"))
    least = min(bounds, key=lambda bound: bound.most)
    rank = None if blocks is None else rank_below(blocks, math.ceil(min(near, least.most)))
    return least if rank is None else Bound(rank, "rank")


def in_blocks(X: Float[np.ndarray, "n features"], rows: int = 4096) -> Iterator[np.ndarray]:
    """Some rows of all the data first, so that most ranks are seen at once, then all, block by block."""
    yield X[:: max(1, len(X) // 512)]
    for start in range(0, len(X), rows):
        yield X[start : start + rows]


def rank_below(blocks: Iterable[np.ndarray], most: int) -> int | None:
    """Dimension of the flat that holds all rows if it is less than ``most``, else None, as soon as that is seen.

    Rows count as inside where they are so to rounding: by the precision of their type, or of double. Columns are
    brought to one unit, by the first rows in which they differ, as a narrow column is no rounding of a wide one; a
    hundredth of a column's numbers at least, whose rounding stays small then.
    """
    centre, unit, axes, extent = np.empty(0), np.empty(0), np.empty((0, 0)), 0.0
    for block in blocks:
        if not centre.size:
            centre, unit = block[0].astype(np.float64), np.zeros(block.shape[1])
            axes = np.empty((0, block.shape[1]))
        rows = block.astype(np.float64) - centre
        extents = np.abs(rows).max(0)
        least = np.abs(centre) / 100
        unit = np.where((unit > 0) | (extents == 0), unit, np.maximum(extents, least))
        rows /= np.where(unit > 0, unit, 1.0)
        extent = max(extent, float(np.abs(rows).max()))
        single = block.dtype.kind == "f" and block.dtype.itemsize <= 4
        rounding = _ROUNDING * float(np.finfo(np.float32 if single else np.float64).eps) * extent
        while True:
            if len(axes) >= most:
                return None
            outside = rows - (rows @ axes.T) @ axes
            far = np.flatnonzero(np.abs(outside).max(1) > rounding)
            if not len(far):
                break
            some = outside[far[:: max(1, len(far) // (4 * most + 20))]]
            _, sizes, new = np.linalg.svd(some, full_matrices=False)
            new = new[sizes > rounding]
            axes = np.linalg.qr(np.concatenate([axes, new]).T)[0].T
    return len(axes)


def rank_of(X: Float[np.ndarray, "n features"]) -> int:
    """Return the dimension of the flat that holds all rows, to rounding."""
    most = X.shape[1] + 1
    return min(most if (rank := rank_below(in_blocks(X), most)) is None else rank, len(X) - 1)
