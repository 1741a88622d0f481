"""What multipers computes, called in the way that does not crash.

Cells are inserted by us, in blocks: converting gudhi's simplex tree ends the Python process with some pairs of
versions. Its edge collapses and densities are not used, since they need further libraries.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex
from lodim.geometry.multiparameter_persistence.ranks import RankedFiltration, check_degree
from lodim.validation import require


def require_multipers() -> Any:
    """Return multipers, or raise an ImportError that says which versions are known to work."""
    multipers = require("multipers", "topology")
    require("gudhi", "topology")
    version = tuple(int(part) for part in str(multipers.__version__).split(".")[:2])
    if version != (2, 3):
        raise ImportError(
            f"multipers {multipers.__version__} is installed, and only 2.3.* is known to work: "
            "pip install 'lodim[topology]'"
        )
    return multipers


def simplex_tree(fc: FilteredComplex, values: np.ndarray, degree: int) -> Any:
    """Simplex tree of multipers with the cells that homology up to ``degree`` needs."""
    multipers = require_multipers()
    if fc.shape is not None:
        raise ValueError("images (cubical complexes) are not handed to multipers; use FiberedDecomposition")
    tree, start = multipers.SimplexTreeMulti(num_parameters=values.shape[1]), 0
    for block in fc.cells[: degree + 2]:
        grades = values[start : start + len(block)]
        start += len(block)
        inside = np.isfinite(grades).all(1)
        if inside.any():
            vertices = np.ascontiguousarray(block[inside].T)
            tree.insert_batch(vertices, np.ascontiguousarray(grades[inside], dtype=np.float64))
    return tree


def multipers_hilbert(fc: FilteredComplex, grid: Any, degree: int) -> np.ndarray:
    """Return the Hilbert function on a grid by multipers; grades are rounded up onto the grid here, not there."""
    check_degree(fc, degree)
    full = fc.expand()
    values = full.filtration.detach().cpu().numpy()
    places = np.stack([np.searchsorted(axis, values[:, k]) for k, axis in enumerate(grid)], 1).astype(float)
    shape = tuple(len(axis) for axis in grid)
    places[(places >= np.array(shape)).any(1)] = np.inf
    weights = np.zeros(shape, dtype=np.int64)
    points, counts = _signed_measure(simplex_tree(full, places, degree), degree, "hilbert")
    np.add.at(weights, tuple(points.reshape(-1, 2).astype(int).T), counts)
    return weights.cumsum(0).cumsum(1)


def _signed_measure(tree: Any, degree: int, invariant: str) -> tuple[np.ndarray, np.ndarray]:
    multipers = require_multipers()
    if len(tree) == 0:
        return np.empty((0, 4 if invariant == "rank" else 2)), np.empty(0, dtype=np.int64)
    ((points, counts),) = multipers.signed_measure(tree, degree=degree, invariant=invariant, n_jobs=1)
    return np.asarray(points), np.asarray(counts, dtype=np.int64)


def multipers_rank(
    fc: FilteredComplex, ranked: RankedFiltration, degree: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank measure's points as ranks (births, then deaths; -1 for a death at infinity) and its weights."""
    values = np.where(ranked.ranks >= 0, ranked.ranks, np.inf).astype(float)
    points, counts = _signed_measure(simplex_tree(fc, values, degree), degree, "rank")
    points = points.reshape(-1, 2 * fc.n_parameters)
    return np.where(np.isfinite(points), points, -1).astype(np.int64), counts.astype(float)
