"""Surfaces of functions that are dear to ask: :func:`extract_surface`, marching cubes from coarse to fine.

On a grid of r^3 cells the surface passes through some r^2 of them. The function is asked on a coarse grid first; on
each next one, twice as fine, only where cells of the former one have neighbours on the other side of the surface.
Wherever the surface turns out to leave these cells it is followed, until all eight corners of every cube it passes
through have been asked. What is left has the sign of the coarser cell. So the mesh is that of the full grid but for
pieces (or holes) that no cell of the coarse grid shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from lodim.shapes.meshes import cell_centres, isosurface
from lodim.validation import check_counts, check_in_range, checked, to_numpy

__all__ = ["extract_surface"]


@checked
def extract_surface(
    values: Callable[[np.ndarray], Any],
    resolution: int = 128,
    isovalue: float | int = 0.0,
    *,
    coarse: int | None = 32,
    bounds: float | int = 0.5,
    batch_size: int = 65536,
) -> Any:
    """Return the closed surface around where a function is at most ``isovalue``.

    Parameters
    ----------
    values : callable
        Points (n, 3) to n numbers, growing outwards, or to n bool, True inside.
    resolution : int
        Cells along a side.
    coarse : int or None
        The first grid is ``resolution`` halved as often as it stays whole and at least so fine. Parts thinner than its
        cells can be missed. None: all points of the fine grid are asked.
    bounds : float
        The cube is [-bounds, bounds]^3.
    batch_size : int
        Points asked in a call.

    Returns
    -------
    trimesh.Trimesh
        As of :func:`~lodim.shapes.isosurface`: without faces, and with a warning, where nothing is inside.

    Raises
    ------
    ValueError
        A function that returns other than a number for each point, or numbers that are not finite.
    """
    check_counts(resolution=resolution, batch_size=batch_size)
    if coarse is not None:
        check_counts(coarse=coarse)
    # twice as much is computed with
    check_in_range(bounds, "bounds", low=np.finfo(float).tiny, high=np.finfo(float).max / 2)
    sides = [int(resolution)]
    while coarse is not None and sides[0] % 2 == 0 and sides[0] // 2 >= coarse:
        sides.insert(0, sides[0] // 2)

    def ask(points: np.ndarray) -> np.ndarray:
        parts = (points[i : i + batch_size] for i in range(0, len(points), batch_size))
        return np.concatenate([_answers(values, part, isovalue) for part in parts])

    grid = ask(2 * bounds * cell_centres(sides[0])).reshape((sides[0],) * 3)
    for side in sides[1:]:
        near = _beside(grid <= isovalue)
        for axis in range(3):
            grid, near = grid.repeat(2, axis), near.repeat(2, axis)
        known = np.zeros(grid.shape, bool)
        while near.any():
            at = np.argwhere(near)
            grid[near] = ask(2 * bounds * ((at + 0.5) / side - 0.5))
            known |= near
            near = _beside(grid <= isovalue) & ~known
    return isosurface(grid, float(isovalue), float(bounds))


def _beside(inside: np.ndarray) -> np.ndarray:
    """Mark the cells with another on the other side of the surface among the 26 around them."""
    return maximum_filter(inside, 3) != minimum_filter(inside, 3)


def _answers(values: Callable[[np.ndarray], Any], points: np.ndarray, isovalue: float) -> np.ndarray:
    found = np.asarray(to_numpy(values(points), "what values returns"))
    if found.shape != (len(points),) or found.dtype.kind not in "bf":
        raise ValueError(
            f"values must return one number or bool a point, shape ({len(points)},); got {found.dtype}, "
            f"shape {found.shape}"
        )
    if not np.isfinite(found).all():
        raise ValueError(
            f"values returned {int((~np.isfinite(found)).sum())} numbers that are NaN or infinite"
        )
    return (
        np.where(found, isovalue - 1.0, isovalue + 1.0) if found.dtype == bool else found.astype(np.float64)
    )
